// One server as the signed-in member sees it: roles with their real state, subscriptions, offers.
import { away, badge, button, el, instant, named, note, price, time } from "./parts.js";
import { T } from "./texts.js";

function heading(server, id) {
  return el("h2", { id }, el("span", { class: "letter", "aria-hidden": "true" }, [...server.name][0] ?? "?"), named(server.name));
}

/** A server of the profile. `page` has now(), busy, notes, run, and `acts` {cancel, undo, portal, restore}. */
export function group(page, server) {
  const id = `server-${server.id}`;
  return el("section", { class: "server", "aria-labelledby": id }, heading(server, id), freshness(page, server),
    el("h3", {}, T.subscriptions),
    server.subscriptions.length ? el("div", { class: "cards" }, server.subscriptions.map((sub) => card(page, server, sub)))
      : el("p", { class: "quiet" }, T.noSubscriptions),
    el("h3", {}, T.roles), roles(page, server));
}

function freshness(page, server) {
  const [said, at] = server.subscriptions.length && server.as_of ? [T.lastRead, server.as_of] : [T.lastLooked, server.checked_at];
  if (!at) return null;
  const old = server.subscriptions.some((sub) => sub.state !== "ended") && page.now() - Date.parse(at) > 26 * 3600 * 1000;
  return el("p", { class: "quiet" }, said, time(at, away(at, page.now())), ". ", old ? el("strong", {}, T.old) : "");
}

function card(page, server, sub) {
  const id = `title-${sub.id}`;
  const name = sub.offer ? named(sub.offer.name) : T.noOffer;
  return el("article", { id: `card-${sub.id}`, class: `card is-${sub.state}`, "aria-labelledby": id },
    el("div", { class: "card-top" }, el("h4", { id }, name), badge(sub.state, T.state[word(sub)] ?? T.state.unknown)),
    el("p", { class: "quiet" }, [sub.price ? price(sub.price) : "", T.paidThrough[sub.processor] ?? sub.processor].filter(Boolean).join(" · ")),
    el("p", {}, meaning(page, sub)),
    sub.why ? el("p", { class: "why" }, sub.why.text, " ", T.next, sub.why.next) : null,
    actions(page, server, sub), note(page, sub.id));
}

/** By its server, with a paid rest or without; not ending by itself. */
const paused = (sub) => sub.status === "paused"
  || (["active", "trialing"].includes(sub.status) && ["ending", "ended"].includes(sub.state) && !sub.cancel_scheduled);

const word = (sub) => paused(sub) ? "paused" : sub.status === "suspended" ? sub.status : sub.begins_at ? "later" : sub.state;

/** What the subscription's state means, with its instants in the member's own time. */
function meaning(page, sub) {
  const when = (iso) => [el("strong", {}, instant(iso)), ` – ${away(iso, page.now())}. `];
  if (sub.begins_at) return [T.begins, when(sub.begins_at), T.beginsThen];
  if (sub.status === "trialing" && sub.renews_at && sub.offer) return [T.trial, when(sub.renews_at), T.trialThen];
  if (sub.kind === "purchase" && sub.access_until) return [T.boughtUntil, when(sub.access_until)];
  if (sub.state === "active" && sub.renews_at && sub.offer) return [T.renews, when(sub.renews_at)];
  if (sub.state === "ending" && sub.ends_at) return [T.ends, when(sub.ends_at), T.noCharge, sub.processor === "paypal" && sub.actions.includes("undo") ? T.goOn : ""];
  if (sub.state === "ending" && sub.access_until && paused(sub)) return [T.voidUntil, when(sub.access_until)];
  if (sub.state === "on_hold" && sub.ends_at) return [sub.text, T.holdEnds, when(sub.ends_at), T.noCharge];
  if (sub.state === "on_hold" && sub.renews_at) return [sub.text, T.holdCharges, when(sub.renews_at), T.holdUnless];
  if (sub.state === "grace" && sub.access_until) {
    if (sub.status === "suspended") return [T.suspendedUntil, when(sub.access_until), T.suspendedThen];
    return [T.graceUntil, when(sub.access_until), sub.ends_at ? [T.graceEnds, instant(sub.ends_at), ". "] : "",
            sub.processor === "paypal" ? T.gracePaypal : T.graceThen];
  }
  const ended = sub.state === "ended" && (sub.ended_at ?? sub.ends_at);
  if (ended) return [T.ended, el("strong", {}, instant(ended)), "."];
  return sub.text || T.unknown;
}

function actions(page, server, sub) {
  const urgent = sub.state !== "grace" ? "undo" : sub.actions.includes("payment_method") ? "payment_method" : "manage";
  const label = { manage: T.manageAt[sub.processor] ?? T.manage, payment_method: T.paymentMethod, undo: T.undoAt[sub.processor] ?? T.undo, cancel: T.cancel, cancel_now: T.cancelNow };
  const press = {
    manage: () => page.acts.portal(sub, null), payment_method: () => page.acts.portal(sub, "payment_method"),
    undo: () => page.acts.undo(sub), cancel: () => page.acts.cancel(server, sub, "cancel"),
    cancel_now: () => page.acts.cancel(server, sub, "cancel_now"),
  };
  // Where both are possible the dialog asks which.
  const known = sub.actions.filter((name) => press[name] && !(name === "cancel_now" && sub.actions.includes("cancel")));
  return known.length ? el("div", { class: "row" }, known.map((name) => button(page, {
    id: `${name}-${sub.id}`, place: sub.id, label: label[name], kind: name === urgent ? "main" : name.startsWith("cancel") ? "grave" : "",
    opens: name.startsWith("cancel"),
    name: sub.offer ? `${label[name]}: ${sub.offer.name}` : null, press: press[name] }))) : null;
}

function roles(page, server) {
  const place = `server-${server.id}-roles`;
  const missing = server.roles.some((role) => role.state === "blocked");
  const restore = server.actions.includes("restore") && button(page, {
    id: `restore-${server.id}`, place, label: T.restore, kind: missing ? "main" : "", press: () => page.acts.restore(server, place) });
  return [
    server.roles.length ? el("ul", { class: "roles" }, server.roles.map((role) => roleLine(page, role)))
      : el("p", { class: "quiet" }, T.noRoles),
    restore ? el("div", { class: "row" }, restore, el("span", { class: "quiet" }, T.restoreNote)) : null, note(page, place)];
}

function roleLine(page, role) {
  const until = role.until ? [role.grace ? T.roleGrace : T.roleUntil, instant(role.until)] : role.renews ? T.roleRenews
    : role.subscriptions.length ? T.roleForGood : null;
  const why = role.why;
  return el("li", {},
    el("div", { class: "role-top" }, el("strong", {}, named(role.name)), badge(role.state, T.roleState[role.state] ?? role.state),
       until ? el("span", { class: "quiet" }, until) : null),
    why ? el("p", { class: "why" }, why.text, " ", why.next && [T.next, why.next],
             role.state === "blocked" && why.retry_at ? el("span", { class: "quiet" }, " ", T.retryAt, away(why.retry_at, page.now()), ".") : null)
      : null);
}

/** What a server sells. `mine`: this member's subscriptions there, or null when nobody is signed in. */
export function offers(page, server, mine) {
  return el("section", { class: "server" }, el("h3", {}, named(server.name)),
    el("div", { class: "cards" }, server.offers.map((offer) => sale(page, server, offer, mine))));
}

function sale(page, server, offer, mine) {
  const place = `offer-${server.id}-${offer.id}`;
  return el("article", { class: "card" },
    el("div", { class: "card-top" }, el("h4", {}, named(offer.name)), el("span", { class: "price" }, price(offer.price))),
    offer.description ? el("p", {}, named(offer.description)) : null,
    el("p", { class: "quiet" }, T.gives, offer.roles.map((role, n) => [n ? ", " : "", named(role.name)])),
    mine ? held(mine, offer) ?? el("div", { class: "row" }, buys(page, server, offer, place)) : null,
    note(page, place));
}

function buys(page, server, offer, place) {
  const several = offer.processors.length > 1;
  return offer.processors.map((one, n) => button(page, {
    id: n ? `buy-${one}-${server.id}-${offer.id}` : `buy-${server.id}-${offer.id}`, place, kind: n ? "" : "main",
    label: several ? T.buyWith[one] : T.buy, name: several ? T.buyWithNamed[one](offer.name) : T.buyNamed(offer.name), press: () => page.acts.buy(server, offer, one) }));
}

// As POST checkout-sessions refuses a second one.
const TAKEN = ["active", "trialing", "past_due", "suspended", "paused", "unpaid"];
const taken = (sub) => TAKEN.includes(sub.status) || (sub.status === "bought" && sub.state === "active") || (sub.status === "running_out" && sub.state === "ending");

function held(mine, offer) {
  const had = mine.filter((one) => one.offer?.id === offer.id && taken(one));
  const sub = had.find((one) => one.state !== "ending") ?? had[0];
  if (!sub) return null;
  const [said, kind] = sub.state === "on_hold" ? [T.haveHeld, "is-bad"] : paused(sub) ? [T.havePaused, "is-wait"]
    : sub.status === "suspended" ? [T.haveSuspended, "is-bad"]
    : ["past_due", "unpaid"].includes(sub.status) ? [T.haveUnpaid, "is-bad"] : [sub.state !== "ending" ? T.have : T.haveEndingAt[sub.processor] ?? T.haveEnding, ""];
  return el("p", { class: `have ${kind}` }, said);
}
