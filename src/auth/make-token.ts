import { SignJWT } from "jose";

/**
 * Makes a client's token: HS256, for one audience and one user, valid for `ttlSeconds` from now.
 *
 * Source: PROTOCOL.md, "Authentication of the client".
 */
export function makeClientToken(key: string, claims: { audience: string; userId: string; ttlSeconds: number }) {
  return sign(new SignJWT().setSubject(claims.userId), key, claims);
}

/**
 * Makes a token for calls of the REST API: HS256, for one URL and time. `ttlSeconds` from now.
 *
 * Shape:  `audience` is the URL that is called; its query may be left out unless it names the hub.
 * Source: PROTOCOL.md, "REST API".
 */
export function makeRestToken(key: string, claims: { audience: string; ttlSeconds: number }) {
  return sign(new SignJWT(), key, claims);
}

function sign(token: SignJWT, key: string, { audience, ttlSeconds }: { audience: string; ttlSeconds: number }) {
  return token
    .setProtectedHeader({ alg: "HS256", typ: "JWT" })
    .setAudience(audience)
    .setIssuedAt()
    .setExpirationTime(Math.floor(Date.now() / 1000) + ttlSeconds)
    .sign(new TextEncoder().encode(key));
}
