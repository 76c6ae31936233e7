//! Judges what is swapped in.

use super::{Attempt, Call, Truth, is_held_by};
use leasehold_core::{
    entry::{Entry, Lease},
    identity::{Generation, Seq},
    page::{Page, Pointer},
    time::Timestamp,
    transition::{Acquire, Release},
};
use proptest::{prop_assert, prop_assert_eq, prop_assert_ne, test_runner::TestCaseResult};

impl Truth<'_> {
    /// A swap was applied that a coordinator at `position` decided on at `now`.
    pub(crate) fn applied(
        &mut self,
        now: Timestamp,
        position: Seq,
        call: &Call,
        before: Option<&Entry>,
        after: &Entry,
    ) -> TestCaseResult {
        self.has_swapped = true;
        prop_assert_ne!(before.map(|before| before.version), Some(after.version));
        if let (Call::Acquire(ask), Some(before)) = (call, before)
            && let Some(lease) = before.lease.as_ref().filter(|lease| lease.token == ask.token)
        {
            self.told_again.insert(Attempt(lease.token, lease.generation));
            let told = Lease { repeated: true, ..lease.clone() };
            prop_assert_eq!(after, &Entry { version: after.version, lease: Some(told), ..before.clone() });
        } else if let Call::Acquire(ask) = call {
            self.applied_grant(now, position, ask, before, after)?;
        } else {
            let Some(before) = before else { panic!("{call:?} made an entry") };
            prop_assert_eq!(after.generation, before.generation, "only a grant raises the generation");
            match call {
                Call::Acquire(_) => unreachable!(),
                Call::Renew(attempt, _) => self.applied_renewal(now, *attempt, before, after)?,
                Call::Release(attempt, how) => self.applied_release(*attempt, how, before, after)?,
                Call::Commit(attempt, page) => self.applied_commit(now, *attempt, page, before, after)?,
                Call::MarkGone(generation) => {
                    let mut pointer = before.pointer.clone().unwrap();
                    prop_assert_eq!(pointer.generation, *generation);
                    pointer.gone = true;
                    let wanted = Entry { version: after.version, pointer: Some(pointer), ..before.clone() };
                    prop_assert_eq!(after, &wanted);
                }
            }
        }
        // Whatever it was: a lease is the grant it came from, but for its expiry.
        if let Some(lease) = &after.lease {
            let granted = self.grants.last().unwrap();
            prop_assert_eq!(
                lease,
                &Lease {
                    expires_at: lease.expires_at,
                    ttl: lease.ttl,
                    repeated: lease.repeated,
                    ..granted.clone()
                }
            );
            prop_assert!(lease.expires_at <= lease.hold_until && lease.expires_at >= granted.expires_at);
        }
        Ok(())
    }

    fn applied_grant(
        &mut self,
        now: Timestamp,
        position: Seq,
        ask: &Acquire,
        before: Option<&Entry>,
        after: &Entry,
    ) -> TestCaseResult {
        let lease = after.lease.as_ref().unwrap();
        let granted = Lease {
            generation: before
                .map_or(Generation(now.as_secs()), |before| Generation(before.generation.0 + 1)),
            token: ask.token,
            owner: ask.owner.clone(),
            granted_at: now,
            expires_at: now.plus(ask.ttl).min(now.plus(self.rules.max_hold)),
            ttl: ask.ttl.min(self.rules.max_hold),
            hold_until: now.plus(self.rules.max_hold),
            seen: position,
            repeated: false,
        };
        prop_assert_eq!(lease, &granted);
        prop_assert_eq!(after.generation, granted.generation);
        let reused = self.grants.iter().find(|earlier| earlier.generation >= granted.generation);
        prop_assert!(reused.is_none(), "generation {} after {:?}", granted.generation, reused);
        prop_assert_eq!(&after.pointer, &before.and_then(|before| before.pointer.clone()));
        prop_assert_eq!(&after.released, &before.and_then(|before| before.released));
        prop_assert_eq!(&after.backoff, &before.and_then(|before| before.backoff.clone()));
        let last_ended = self.last_ended.map(|(Attempt(token, _), _)| token);
        prop_assert_ne!(last_ended, Some(ask.token), "a lease for an attempt that has ended");
        if self.grants.iter().any(|earlier| earlier.token == ask.token) {
            self.count("acquire: granted to the same token again");
        }
        self.count(match before.map(|before| before.lease.as_ref()) {
            None => "acquire: granted for the first time",
            Some(None) => "acquire: granted when free",
            Some(Some(lease)) if now >= self.expires(lease) => "acquire: granted after an expiry",
            Some(Some(_)) => "acquire: granted by overtaking",
        });
        self.grants.push(granted);
        Ok(())
    }

    fn applied_renewal(
        &mut self,
        now: Timestamp,
        attempt: Attempt,
        before: &Entry,
        after: &Entry,
    ) -> TestCaseResult {
        let old = before.lease.clone().unwrap();
        let new = after.lease.as_ref().unwrap();
        prop_assert_eq!(Attempt(old.token, old.generation), attempt);
        prop_assert!(new.expires_at > old.expires_at, "a renewal that is no gain");
        self.count(if now >= self.expires(&old) { "renew: moved after expiry" } else { "renew: moved" });
        let lease = Some(Lease { expires_at: new.expires_at, ttl: new.expires_at.since(now), ..old });
        prop_assert_eq!(after, &Entry { version: after.version, lease, ..before.clone() });
        Ok(())
    }

    fn applied_release(
        &mut self,
        attempt: Attempt,
        how: &Release,
        before: &Entry,
        after: &Entry,
    ) -> TestCaseResult {
        prop_assert!(is_held_by(Some(before), attempt));
        prop_assert!(self.released.insert(attempt), "released twice");
        prop_assert_eq!(&after.lease, &None);
        prop_assert_eq!(&after.pointer, &before.pointer, "a release moved the pointer");
        let failures = |entry: &Entry| entry.backoff.as_ref().map_or(0, |backoff| backoff.failures);
        match how {
            Release::Failed { .. } => {
                prop_assert_eq!(failures(after), failures(before) + 1);
                self.count(if failures(after) > 1 { "release: failed again" } else { "release: failed" });
            }
            Release::Unused => {
                prop_assert_eq!(&after.backoff, &before.backoff);
                self.count("release: unused");
            }
            Release::Unheard => {
                prop_assert_eq!(&after.backoff, &before.backoff);
                prop_assert!(!self.told_again.contains(&attempt), "taken back from one who was told of it");
                self.count("release: unheard");
            }
        }
        if *how != Release::Unheard {
            self.last_ended = Some((attempt, true));
            self.ended.insert(attempt.0);
        }
        Ok(())
    }

    /// P1: in the order of generations, under the latest grant only, and never after it was turned away.
    fn applied_commit(
        &mut self,
        now: Timestamp,
        attempt: Attempt,
        page: &Page,
        before: &Entry,
        after: &Entry,
    ) -> TestCaseResult {
        let granted = self.grants.last().unwrap().clone();
        prop_assert_eq!(Attempt(granted.token, granted.generation), attempt, "not the latest grant");
        prop_assert!(!self.turned_away.contains(&attempt), "applied after it was told that it never will be");
        prop_assert!(!self.released.contains(&attempt), "committed after its release");
        let newest = self.committed.values().map(|pointer| pointer.generation).max();
        prop_assert!(newest < Some(attempt.1), "commits are ordered by generation");
        let pointer = Pointer {
            generation: attempt.1,
            token: attempt.0,
            html: page.html.clone(),
            sidecar: page.sidecar.clone(),
            meta: page.meta.clone(),
            generated_at: granted.granted_at,
            committed_at: now,
            seen: granted.seen,
            gone: false,
        };
        prop_assert_eq!(after.pointer.as_ref(), Some(&pointer));
        prop_assert_eq!((&after.lease, &after.backoff), (&None, &None));
        let lease = before.lease.as_ref().unwrap();
        if now >= self.expires(lease) {
            self.count("commit: committed late");
        }
        self.committed.insert(attempt, pointer);
        self.last_ended = Some((attempt, false));
        self.ended.insert(attempt.0);
        Ok(())
    }
}
