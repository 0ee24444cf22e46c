import { SignJWT } from "jose";

/** Makes a client's token: HS256, for one audience, user and time. `ttlSeconds` from now. Source: spec section 3.2. */
export function makeClientToken(key: string, claims: { audience: string; userId: string; ttlSeconds: number }) {
  const expiresAt = Math.floor(Date.now() / 1000) + claims.ttlSeconds;
  return new SignJWT()
    .setProtectedHeader({ alg: "HS256", typ: "JWT" })
    .setSubject(claims.userId)
    .setAudience(claims.audience)
    .setIssuedAt()
    .setExpirationTime(expiresAt)
    .sign(new TextEncoder().encode(key));
}
