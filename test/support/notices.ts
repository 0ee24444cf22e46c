import type { Notice, NoticeOf, Report } from "../../src/protocol/notices.ts";

/** What a test does with notices of some kinds. */
type Listeners = { readonly [Kind in Notice["kind"]]?: (notice: NoticeOf<Kind>) => void };

/** A report that hands each notice to the listener of its kind. A notice of any other kind fails the test. */
export function hearing(listeners: Listeners): Report {
  return (notice) => {
    const listen = listeners[notice.kind] as Report | undefined;
    if (listen === undefined) unexpected(notice);
    else listen(notice);
  };
}

/** A report for a test in which notices do not matter. */
export const ignoreNotices: Report = () => {};

/** A report for a test in which nothing may be told. */
export const unexpected: Report = (notice) => {
  throw notice.kind === "fault" ? notice.error : new Error(`unexpected notice: ${JSON.stringify(notice)}`);
};

/** A notice as one line: its kind, and the values of its fields behind it. */
export function wordsOf({ kind, ...fields }: Notice): string {
  return [kind, ...Object.values(fields)].join(" ").trim();
}
