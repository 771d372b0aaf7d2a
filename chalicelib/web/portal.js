// The member's page: what is read, what is shown, and what the buttons do.
import * as api from "./api.js";
import { askToCancel } from "./cancel.js";
import { el, named, names, note, problem, receipt, time, zone } from "./parts.js";
import { group, offers } from "./server.js";
import { T } from "./texts.js";

const FIRST_POLL_MS = 500, POLL_MS = 1500, POLL_FOR_MS = 20000, BACK_FOR_MS = 9000;
const [main, who, live] = ["main", "who", "live"].map((id) => document.getElementById(id));
const page = {
  busy: new Map(),    // place → id of the button that was pressed there
  notes: new Map(),   // place → {tone, make}: what came of it
  now: () => Date.parse(profile.as_of) + (performance.now() - readAt),   // the service's clock, not this machine's
  run, forget, acts: { portal, cancel, undo, restore, buy },
};
let profile = null, sales = null, readAt = 0, shown = "", over = false;

// Reading

async function read() {
  const found = await api.profile();
  if (over) await new Promise(() => {});   // signed out meanwhile: never show it
  [profile, readAt] = [found, performance.now()];
}

async function start() {
  const [mine, sold] = await Promise.allSettled([read(), api.servers()]);
  sales = sold.status === "fulfilled" ? sold.value : null;
  if (mine.status === "fulfilled") {
    page.notes.delete("page");
    render();
    return true;
  }
  if (mine.reason.status === 401) signedOut(profile && T.sessionOver);
  else failed(mine.reason);
  return false;
}

/** Read again until `done()` or the time is over; true when it was done. What is shown follows. */
async function until(done, forMs = POLL_FOR_MS) {
  const end = performance.now() + forMs;
  for (let wait = FIRST_POLL_MS; !done() && performance.now() < end; wait = POLL_MS) {
    await new Promise((resolve) => setTimeout(resolve, wait));
    try {
      await read();
      render();
    } catch (error) {
      if (error.status === 401) throw error;   // anything else: the next look may work
    }
  }
  return done();
}

const serverNow = (id) => profile.servers.find((one) => one.id === id);
const subNow = (id) => profile.servers.flatMap((one) => one.subscriptions).find((one) => one.id === id);

// Showing

function render() {
  const focused = document.activeElement?.id;
  const asOf = el("p", { class: "quiet as-of", id: "as-of" }, T.asOf, time(profile.as_of), " · ",
    el("button", { id: "refresh", type: "button", class: "plain", press: () => run("page", "refresh", read) }, T.refresh));
  const state = JSON.stringify([profile.servers, sales, [...page.busy], [...page.notes]]);
  if (state === shown) return void document.getElementById("as-of").replaceWith(asOf);
  shown = state;
  who.replaceChildren(el("span", { class: "signed-in" }, el("span", { class: "unseen" }, T.signedInAs), named(profile.member.name)),
    el("button", { id: "sign-out", type: "button", press: () => run("out", "sign-out", leave) }, T.signOut));
  main.replaceChildren(el("h1", { tabindex: "-1" }, T.title), asOf, note(page, "page") ?? "",
    ...(profile.servers.length ? profile.servers.map((one) => group(page, one)) : [empty()]), shop(true));
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

const empty = () => el("section", { class: "calm" }, el("h2", {}, T.empty), el("p", {}, T.emptyMore));

function shop(signedIn) {
  const selling = (sales ?? []).filter((one) => one.offers.length);
  if (!selling.length && (signedIn || !sales)) return "";
  const mine = (one) => (signedIn ? serverNow(one.id)?.subscriptions ?? [] : null);
  return el("section", { class: "shop", "aria-labelledby": "shop" }, el("h2", { id: "shop" }, T.offers),
    el("p", { class: "quiet" }, selling.length ? (signedIn ? "" : T.offersMore) : T.noOffers),
    selling.map((one) => offers(page, one, mine(one))));
}

function signedOut(notice) {
  if (over) return;
  [over, profile] = [true, null];
  who.replaceChildren();
  main.replaceChildren(el("h1", { tabindex: "-1" }, T.hello), notice ? el("p", { class: "note is-good" }, notice) : "",
    el("p", { class: "intro" }, T.intro), el("p", {}, el("a", { class: "button main", href: "auth/discord/login" }, T.signIn)),
    el("p", { class: "quiet" }, T.introMore), shop(false));
  if (notice) {
    main.querySelector("h1").focus();
    live.textContent = notice;
  }
}

/** The profile could not be read: above what is shown already, or in place of it. */
function failed(error) {
  if (profile) return tell("page", "bad", () => [problem(error), el("p", {}, T.stillShown)]);
  main.replaceChildren(el("h1", { tabindex: "-1" }, T.title), el("div", { class: "note is-bad", role: "alert" }, problem(error),
    el("button", { id: "retry", type: "button", press: start }, T.retry)));
  document.getElementById("retry").focus();
}

/** Put a note in its place, and the focus on it; who has moved on from an earlier note there only hears it. */
function tell(place, tone, make) {
  const id = `note-${place}`, moved = page.notes.has(place) && document.activeElement?.id !== id;
  page.notes.set(place, { tone, make, at: performance.now() });
  render();
  const put = document.getElementById(id);
  if (moved) live.textContent = put.firstChild.textContent;
  else put?.focus();
}

function forget(place) {
  const near = document.getElementById(`note-${place}`)?.parentElement.querySelector("button[id]")?.id;
  page.notes.delete(place);
  render();
  document.getElementById(near)?.focus({ preventScroll: true });
}

// Doing

/** Do one thing at a time in a place: its buttons rest meanwhile, and what goes wrong is said there. */
async function run(place, id, task) {
  if (page.busy.has(place)) return;
  page.busy.set(place, id);
  page.notes.delete(place);
  render();
  try {
    await task();
  } catch (error) {
    if (error.status === 401) signedOut(T.sessionOver);
    if (over) return;
    if (!(error instanceof api.Problem)) console.error(error);
    if (["page", "out"].includes(place)) failed(error);
    else tell(place, "bad", () => problem(error));
  } finally {
    page.busy.delete(place);
    if (profile) render();
  }
}

async function leave() {
  await api.signOut();
  signedOut(T.signedOut);
}

async function portal(sub, flow) {
  const url = await api.portal(sub.id, flow);
  sessionStorage.setItem("at-stripe", "1");   // what was changed there comes by webhook: look for it on return
  location.assign(url);
}

async function buy(server, offer, processor) {
  location.assign(await api.buy(server.id, offer.id, processor));
}

async function cancel(server, sub, button) {
  const id = `${button}-${sub.id}`;
  let result;
  try {
    result = await askToCancel(server, sub, (answers) => api.cancel(sub.id, answers));
  } catch {
    return signedOut(T.sessionOver);   // every other refusal was shown in the dialog
  }
  document.getElementById(id)?.focus();
  if (result === "there") return run(sub.id, id, () => portal(sub, "cancel"));
  return result && run(sub.id, id, () => {
    tell(sub.id, "good", () => receipt("cancel", result));
    return until(() => (result.read_back === "canceled" ? subNow(sub.id)?.state === "ended" : subNow(sub.id)?.cancel_scheduled !== false));
  });
}

async function undo(sub) {
  const { url, receipt: result } = await api.undo(sub.id);
  if (url) return location.assign(url);   // PayPal: a new subscription is approved there
  tell(sub.id, "good", () => receipt("undo", result));
  return until(() => !subNow(sub.id)?.cancel_scheduled);
}

const looked = (server) => JSON.stringify([server.checked_at, server.roles]);

async function restore(server, place) {
  const text = await api.restore(server.id);
  tell(place, "good", () => [el("p", {}, text)]);
  const settled = await until(() => {
    const now = serverNow(server.id);
    return now && looked(now) !== looked(server) && now.roles.every((role) => role.state !== "pending");
  });
  rolesNow(place, settled, serverNow(server.id)?.roles ?? [], [T.restored, T.restoreBlocked, T.restoreSlow]);
}

/** Tell how the roles stand after an action: all held, some blocked, or not known yet. */
function rolesNow(place, settled, roles, [done, blocked, slow]) {
  const wanted = roles.filter((role) => role.state !== "ending");
  const held = wanted.filter((role) => role.state === "held").map((role) => role.name);
  if (!settled) tell(place, "wait", () => [el("p", {}, slow)]);
  else if (held.length < wanted.length || !held.length) tell(place, "bad", () => [el("p", {}, blocked)]);
  else tell(place, "good", () => [el("p", {}, done, names(held), ".")]);
}

// Coming back

async function cameFromCheckout(offer, server) {
  history.replaceState(null, "", location.pathname);   // a reload is not another purchase
  const buying = () => profile.servers.filter((one) => one.id === server).flatMap((one) => one.subscriptions
    .filter((sub) => sub.offer?.id === offer && !["ended", "pending"].includes(sub.state))
    .map((sub) => one.roles.filter((role) => sub.role_ids.includes(role.id))));
  const settled = () => buying().some((roles) => roles.length && roles.every((role) => role.state !== "pending"));
  tell("page", "wait", () => [el("p", {}, T.bought)]);
  const done = await until(settled);
  rolesNow("page", done, buying().flat(), [T.boughtDone, T.boughtBlocked, T.boughtSlow]);
}

async function cameFromApproval(offer, server) {
  history.replaceState(null, "", location.pathname);
  const settled = () => profile.servers.filter((one) => one.id === server).flatMap((one) => one.subscriptions)
    .some((sub) => sub.offer?.id === offer && sub.begins_at);
  tell("page", "wait", () => [el("p", {}, T.anew)]);
  const done = await until(settled);
  tell("page", done ? "good" : "wait", () => [el("p", {}, done ? T.anewDone : T.anewSlow)]);
}

async function begin() {
  document.getElementById("zone").textContent = T.zone(zone);
  const [bought, anew, server] = ["bought", "anew", "server"].map((name) => new URLSearchParams(location.search).get(name));
  const fromStripe = sessionStorage.getItem("at-stripe");
  sessionStorage.removeItem("at-stripe");
  if (!(await start())) return;
  try {
    if (bought) await cameFromCheckout(bought, server);
    if (anew) await cameFromApproval(anew, server);
    const before = JSON.stringify(profile.servers);
    if (fromStripe) await until(() => JSON.stringify(profile.servers) !== before, BACK_FOR_MS);
  } catch (error) {
    if (error.status === 401) signedOut(T.sessionOver);
    else throw error;
  }
}

addEventListener("pageshow", (event) => event.persisted && location.reload());   // back from Stripe: nothing is busy
addEventListener("online", () => start());
begin();
