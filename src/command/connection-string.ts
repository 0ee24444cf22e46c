/** The parts of a connection string: the place of the gateway, and the key to make tokens with. */
export interface GatewayAccess {
  /** Scheme, host and port, without a slash at the end. */
  readonly endpoint: string;
  /** The URL whose host tokens name, where it may be another than the endpoint's. */
  readonly audience?: string;
  readonly accessKey: string;
}

const FIELDS: ReadonlySet<string> = new Set(["endpoint", "accesskey", "version", "port"]);
const VERSION = "1.0";
const MAX_PORT = 65_535;

/**
 * Reads a connection string: `Endpoint=http://host:8080;AccessKey=…;Version=1.0;`.
 *
 * Shape:  fields in any order, their names in any case, each once; a key may hold `=`. `Port` overrides the endpoint's
 *         own port; `Version` may be left out.
 * Errors: `fault` is a sentence to go on after the string's name. It holds nothing of the string, which holds a key.
 */
export function parseConnectionString(text: string): GatewayAccess | { readonly fault: string } {
  const fields = readFields(text);
  if ("fault" in fields) return fields;
  const { values } = fields;
  const accessKey = values.get("accesskey") ?? "";
  if (accessKey === "") return { fault: "has no AccessKey=…" };
  if ((values.get("version") ?? VERSION) !== VERSION) return { fault: `has a Version other than ${VERSION}` };
  const endpoint = parseEndpoint(values.get("endpoint") ?? "", values.get("port"));
  return "fault" in endpoint ? endpoint : { endpoint: endpoint.origin, accessKey };
}

function readFields(text: string): { readonly values: ReadonlyMap<string, string> } | { readonly fault: string } {
  const values = new Map<string, string>();
  const parts = text.split(";").map((part) => part.trim());
  for (const [index, part] of parts.entries()) {
    if (part === "") continue;
    const equals = part.indexOf("=");
    const name = part.slice(0, Math.max(equals, 0)).trim().toLowerCase();
    if (!FIELDS.has(name))
      return { fault: `has an unknown name in field ${index + 1}: use Endpoint, AccessKey, Version, Port` };
    if (values.has(name)) return { fault: `has the name of field ${index + 1} twice` };
    values.set(name, part.slice(equals + 1).trim());
  }
  return { values };
}

function parseEndpoint(
  text: string,
  port: string | undefined,
): { readonly origin: string } | { readonly fault: string } {
  const url = URL.parse(text);
  if (url === null || (url.protocol !== "http:" && url.protocol !== "https:")) {
    return { fault: "has no Endpoint=http://… or https://…" };
  }
  if (url.pathname !== "/" || url.search !== "" || url.hash !== "" || url.username !== "" || url.password !== "") {
    return { fault: "has an Endpoint with more than scheme, host and port" };
  }
  if (port !== undefined) {
    if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > MAX_PORT) {
      return { fault: `has a Port that is not 1 to ${MAX_PORT}` };
    }
    url.port = port;
  }
  return { origin: url.origin };
}
