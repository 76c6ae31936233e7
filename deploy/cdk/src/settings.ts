import { Refused } from './refused.js';

/** Settings, and what must be as the rest of the stack is. */
export function own(
  settings: Readonly<Record<string, string>> = {},
  fixed: Record<string, string>,
): Record<string, string> {
  for (const [name, value] of Object.entries(settings)) {
    if (!/^LEASEHOLD_[A-Z0-9_]+$/.test(name)) {
      throw new Refused(`settings.${name}`, 'is no variable of the coordinator; allowed: LEASEHOLD_*');
    }
    if (name in fixed || /_(PEM|TOML)$/.test(name)) {
      throw new Refused(`settings.${name}`, 'is set by a property of its own; leave it out here');
    }
    if (name === 'LEASEHOLD_LOG' && !isHeard(value)) {
      throw new Refused(
        `settings.${name}`,
        `is '${value}'; allowed: info, debug or trace, also of targets that are the coordinator's: alarms read the log`,
      );
    }
  }
  return { ...settings, ...fixed };
}

const LOUD_ENOUGH = /^(info|debug|trace|[345])$/i;

/** Whether a filter of the log lets through, at level info, what the coordinator says. */
function isHeard(filter: string): boolean {
  const levels = filter.split(',').map((directive) => {
    const [target = '', level] = directive.trim().split(/=(?=[^=]*$)/);
    return level === undefined ? { target: '', level: target } : { target, level };
  });
  // A target is of all that begins with its name, and the longest one counts.
  const ofAll = levels.filter(({ target }) => 'leasehold'.startsWith(target));
  const longest = Math.max(...ofAll.map(({ target }) => target.length));
  const counting = levels.filter(
    ({ target }) =>
      target.startsWith('leasehold') || ('leasehold'.startsWith(target) && target.length === longest),
  );
  return ofAll.length > 0 && counting.every(({ level }) => LOUD_ENOUGH.test(level));
}
