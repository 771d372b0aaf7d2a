// The product's JSON API, and nothing else: every answer is data or a Problem.
import { T } from "./texts.js";

const GIVE_UP_MS = 30000;   // the service itself does so earlier
let token = "";

/** What went wrong, in the service's own words: title, detail, next (RFC 9457). `status` 0: it was not reached. */
export class Problem extends Error {
  constructor({ status = 0, title, detail = "", next = "" }) {
    super(title);
    Object.assign(this, { status, title, detail, next });
  }
}

/** The signed-in member's profile; its token goes with every change from now on. */
export async function profile() {
  const found = await call("GET", "api/v1/profile");
  token = found.csrf_token;
  return found;
}

export const servers = async () => (await call("GET", "api/v1/servers")).servers;
export const buy = async (server, offer, processor) =>
  (await call("POST", "api/v1/checkout-sessions", { server_id: server, offer_id: offer, processor })).url;
export const portal = async (id, flow) => (await change("subscriptions", id, "portal-session", flow ? { flow } : {})).url;
export const cancel = async (id, answers) => (await change("subscriptions", id, "cancel", answers)).receipt;
/** {receipt}, or {url} where it is approved anew. */
export const undo = (id) => change("subscriptions", id, "undo");
export const restore = async (id) => (await change("servers", id, "restore")).text;
export const signOut = () => call("POST", "auth/logout", {});

const change = (kind, id, what, body = {}) => call("POST", `api/v1/${kind}/${encodeURIComponent(id)}/${what}`, body);

async function call(method, path, body) {
  const asked = { method, signal: AbortSignal.timeout(GIVE_UP_MS), headers: { Accept: "application/json" } };
  if (body) {
    asked.body = JSON.stringify(body);
    Object.assign(asked.headers, { "Content-Type": "application/json", "X-CSRF-Token": token });
  }
  let answer, text;
  try {
    answer = await fetch(path, asked);
    text = await answer.text();
  } catch {
    throw new Problem(T.unreachable);
  }
  const data = parsed(text);
  if (answer.ok && (data || !text)) return data;
  throw new Problem({ ...(data?.title ? data : T.unreadable), status: answer.status });
}

function parsed(text) {
  try {
    const data = JSON.parse(text);
    return data && typeof data === "object" ? data : null;
  } catch {
    return null;   // a gateway's own page, say
  }
}
