import { expect, test } from "bun:test";
import { findUpstreamHostFaults } from "./upstream-hosts.ts";

const NOT_LISTED = "its host is not listed in allowedUpstreamHosts";
const tokenUrl = "https://login.example/token?secret=s3cret";

test("entries may name any host by default, but for link-local and metadata addresses", () => {
  const upstreams = [
    { urlTemplate: "http://localhost:7071/{hub}/api/{event}" },
    { urlTemplate: "http://169.254.169.254/{event}" },
    { urlTemplate: "http://[::ffff:a9fe:a9fe]/", auth: { type: "oauth2", tokenUrl: "http://0xa9fea9fe/" } },
    { urlTemplate: "https://10.0.0.1?{hub}", auth: { type: "oauth2", tokenUrl } },
  ];
  expect(findUpstreamHostFaults({ upstreams })).toEqual([
    { path: ["upstreams", 1, "urlTemplate"], message: expect.stringContaining("its host is a link-local address") },
    { path: ["upstreams", 2, "urlTemplate"], message: expect.stringContaining("its host maps to a link-local") },
    {
      path: ["upstreams", 2, "auth", "tokenUrl"],
      message: expect.stringContaining("its host is a link-local address"),
    },
  ]);
});

test("event URLs and token URLs must have a host that is listed, and no fault quotes them", () => {
  const upstreams = [
    { urlTemplate: "http://api.example/{event}", auth: { type: "oauth2", tokenUrl } },
    { urlTemplate: "http://[fd00::1]:8080/", auth: { type: "none" } },
  ];
  const faultsUnder = (allowedUpstreamHosts: unknown) => findUpstreamHostFaults({ allowedUpstreamHosts, upstreams });
  expect(faultsUnder(["api.example", "*.example", "fd00::/8"])).toEqual([]);
  expect(faultsUnder(["api.example", "[fd00::1]"])).toEqual([
    { path: ["upstreams", 0, "auth", "tokenUrl"], message: NOT_LISTED },
  ]);
  expect(faultsUnder([]).map(({ message }) => message)).toEqual([NOT_LISTED, NOT_LISTED, NOT_LISTED]);
});

test("what is no list or no URL is left to the schema", () => {
  const odd = [{ urlTemplate: 7 }, { urlTemplate: "nonsense" }, { urlTemplate: "http://{hub}/" }, null, "x"];
  expect(findUpstreamHostFaults({ upstreams: odd })).toEqual([]);
  expect(findUpstreamHostFaults({ upstreams: {} })).toEqual([]);
  const upstreams = [{ urlTemplate: "http://169.254.169.254/" }];
  for (const allowedUpstreamHosts of ["*", null, [7], ["http://h"]]) {
    expect(findUpstreamHostFaults({ allowedUpstreamHosts, upstreams })).toEqual([]);
  }
});
