import type { AdminError } from "./admin-socket.ts";

/** One request that operators can make. A route does not know which listener the request came through. */
export interface AdminRoute {
  readonly method: "GET" | "POST";
  readonly path: string;
  /** Answers the request. A rejection is a fault of the service: the listener reports it and answers 500. */
  run(request: Request, query: URLSearchParams): Promise<Response>;
}

/** Runs the route of a request; 404 where the table has no such method and path. */
export async function answerAdmin(routes: readonly AdminRoute[], request: Request): Promise<Response> {
  const { pathname, searchParams } = new URL(request.url);
  const route = routes.find(({ method, path }) => method === request.method && path === pathname);
  if (route === undefined)
    return failAdmin(404, "this hubwire has no such request: is it another version than the command?");
  return await route.run(request, searchParams);
}

/** The answer to a request that failed; `error` is a sentence for people. */
export function failAdmin(status: number, error: string): Response {
  const body: AdminError = { error };
  return Response.json(body, { status });
}
