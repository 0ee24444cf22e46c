import { createAccount, createOperator, createUser, type KeyPair } from "@nats-io/nkeys";

/** A server in operator mode, and the credentials of a user whom it lets in. */
export interface NatsCredentials {
  /** For the server's configuration file. */
  readonly config: string;
  /** What a `.creds` file holds. */
  readonly creds: string;
}

const UNLIMITED = {
  subs: -1,
  conn: -1,
  leaf: -1,
  imports: -1,
  exports: -1,
  data: -1,
  payload: -1,
  wildcards: true,
  mem_storage: -1,
  disk_storage: -1,
  streams: -1,
  consumer: -1,
};

/** Makes operator, accounts and user, each with a key of its own, as NATS's own tools would. */
export function makeNatsCredentials(): NatsCredentials {
  const operator = createOperator();
  const [account, system] = [createAccount(), createAccount()];
  const user = createUser();
  const [operatorId, accountId, systemId] = [operator, account, system].map((key) => key.getPublicKey());
  const operatorJwt = sign(operator, operatorId, { type: "operator", version: 2, system_account: systemId });
  const accountJwt = sign(operator, accountId, { type: "account", version: 2, limits: UNLIMITED });
  const { mem_storage: _mem, disk_storage: _disk, streams: _streams, consumer: _consumer, ...plain } = UNLIMITED;
  const systemJwt = sign(operator, systemId, { type: "account", version: 2, limits: plain });
  const userJwt = sign(account, user.getPublicKey(), { type: "user", version: 2, subs: -1, data: -1, payload: -1 });
  const seed = new TextDecoder().decode(user.getSeed());
  return {
    config: `operator: ${operatorJwt}
system_account: ${systemId}
resolver: MEMORY
resolver_preload: { ${accountId}: ${accountJwt}, ${systemId}: ${systemJwt} }`,
    creds: `-----BEGIN NATS USER JWT-----
${userJwt}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
${seed}
------END USER NKEY SEED------
`,
  };
}

/** A JWT in NATS's own dialect: signed with ed25519 keys. */
function sign(issuer: KeyPair, subject: string | undefined, nats: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = {
    jti: subject,
    iat: Math.floor(Date.now() / 1000),
    iss: issuer.getPublicKey(),
    sub: subject,
    name: "test",
    nats,
  };
  const text = `${part({ typ: "JWT", alg: "ed25519-nkey" })}.${part(claims)}`;
  return `${text}.${Buffer.from(issuer.sign(new TextEncoder().encode(text))).toString("base64url")}`;
}
