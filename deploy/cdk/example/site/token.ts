/** The token that the site presents to the coordinator. */
import { GetSecretValueCommand, SecretsManagerClient } from '@aws-sdk/client-secrets-manager';
import type { Token, TokenSource } from 'leasehold-client';

/**
 * The token that is this secret: read when the process starts, so that the first visitor hardly waits for it, and again whenever the
 * coordinator refused it, as somebody may have replaced it.
 */
export function tokenIn(secretArn: string): TokenSource {
  const secrets = new SecretsManagerClient({
    // So that a connection that fell silent while the process was frozen leaves time for another one.
    requestHandler: { connectionTimeout: 1000, requestTimeout: 2000, throwOnRequestTimeout: true },
  });
  const read = async (): Promise<Token> => {
    const { SecretString } = await secrets.send(new GetSecretValueCommand({ SecretId: secretArn }));
    // Without the line feed that an editor leaves behind it.
    return { value: SecretString?.trim() ?? '' };
  };
  let atStart: Promise<Token> | undefined = read();
  // Whoever needs it hears of it.
  atStart.catch(() => {});
  return () => {
    const answer = atStart ?? read();
    atStart = undefined;
    return answer;
  };
}
