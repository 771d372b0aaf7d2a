// Pieces of the page, from data to DOM. Data reaches the page as text only, never as markup.
import { T } from "./texts.js";

/** An element; attributes that are null, undefined or false are left out, `press` is what a click does. */
export function el(tag, { press, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  if (press) made.addEventListener("click", press);
  made.append(...children.flat(9).filter(Boolean));
  return made;
}

/** A name that somebody chose: it cannot turn the text around it. */
export const named = (name) => el("bdi", {}, name);

/** Names in a sentence: "A, B and C". */
export function names(list) {
  const parts = new Intl.ListFormat("en", { type: "conjunction" }).formatToParts(list);
  return parts.map((part) => (part.type === "element" ? named(part.value) : part.value));
}

const LANGUAGE = navigator.language?.startsWith("en") ? navigator.language : "en-GB";
const DAY = { day: "numeric", month: "long", year: "numeric" };
const CLOCK = { hour: "2-digit", minute: "2-digit" };
const local = new Intl.DateTimeFormat(LANGUAGE, { ...DAY, ...CLOCK, timeZoneName: "short" });
const exact = new Intl.DateTimeFormat(LANGUAGE, { ...DAY, ...CLOCK, second: "2-digit", timeZone: "UTC" });
const utc = new Intl.DateTimeFormat(LANGUAGE, { ...CLOCK, timeZone: "UTC" });
const distance = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
export const zone = local.resolvedOptions().timeZone;

/** An instant in the member's own zone; its exact UTC form is in the title. */
export function time(iso, words = local.format(new Date(iso))) {
  return el("time", { datetime: iso, title: `${exact.format(new Date(iso))} UTC` }, words);
}

/** The same, with UTC beside it for those who cannot see a title. */
export function instant(iso) {
  const at = new Date(iso);
  if (at.getTimezoneOffset() === 0) return time(iso);
  const words = at.getUTCDate() === at.getDate() ? utc : exact;
  return [time(iso), " ", el("span", { class: "utc" }, `(${words.format(at)} UTC)`)];
}

/** How far away an instant is: "in 6 days", "3 minutes ago". */
export function away(iso, now) {
  const seconds = (Date.parse(iso) - now) / 1000;
  const [size, unit] = [[86400, "day"], [3600, "hour"], [60, "minute"]].find(([least]) => Math.abs(seconds) >= least) ?? [1, ""];
  return unit ? distance.format(Math.trunc(seconds / size), unit) : seconds < 0 ? "just now" : "in a moment";
}

const NO_CENTS = "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf";
const THOUSANDTHS = "bhd jod kwd omr tnd";

/** {amount, currency} for people; Stripe counts in the smallest unit (docs.stripe.com/currencies). */
export function money({ amount, currency }) {
  const digits = NO_CENTS.includes(currency) ? 0 : THOUSANDTHS.includes(currency) ? 3 : 2;
  return new Intl.NumberFormat(LANGUAGE, { style: "currency", currency, minimumFractionDigits: digits, maximumFractionDigits: digits })
    .format(amount / 10 ** digits);
}

/** "5.00 € per month", "90.00 € once, for good". */
export function price(of) {
  const lasts = of.interval !== "once" ? "" : `, ${of.days ? T.days(of.days) : T.forGood}`;
  return `${money(of)} ${T.every[of.interval] ?? ""}${lasts}`;
}

/** A state in words; the colour only repeats it. */
export const badge = (state, words) => el("span", { class: `badge is-${state}` }, words);

/** A button that keeps its focus and does nothing while its place is busy. */
export function button(page, { id, place, label, name, kind, opens, press }) {
  const busy = page.busy.get(place);
  return el("button", { id, type: "button", class: kind, "aria-label": busy === id ? null : name,
                        "aria-disabled": busy ? "true" : null, "aria-haspopup": opens ? "dialog" : null,
                        press: () => (opens ? busy || press() : page.run(place, id, press)) },
            busy === id ? T.working : label);
}

/** What came of the last action of this place: a receipt or a problem; null when there was none. */
export function note(page, place) {
  const found = page.notes.get(place);
  return found ? el("div", { id: `note-${place}`, tabindex: "-1", class: `note is-${found.tone}` }, ...found.make(),
                    el("button", { type: "button", class: "plain", press: () => page.forget(place) }, T.dismiss)) : null;
}

/** A problem in words: what happened, why, and what to do. */
export function problem({ title, detail, next }) {
  return [el("p", { class: "strong" }, title), detail && el("p", {}, detail), next && el("p", {}, T.next, next)];
}

/** A dated receipt, in the service's words and again in the member's own time. */
export function receipt(kind, made) {
  const invoice = made.open_invoice;
  const page = invoice?.url && /^https?:/.test(invoice.url) ? el("a", { href: invoice.url, rel: "noreferrer" }, T.payInvoice) : null;
  return [
    el("p", { class: "strong" }, kind === "cancel" ? T.receiptCancel : T.receiptUndo),
    el("p", { class: "receipt-text" }, made.text),
    made.access_until ? el("p", {}, T.receiptUntil, instant(made.access_until), ".") : null,
    typeof made.next_charge?.at === "string" ? el("p", {}, T.receiptNext, instant(made.next_charge.at), ".") : null,
    invoice ? el("p", {}, T.openInvoice, invoice.number ? named(invoice.number) : "", `: ${money(invoice)}`, page ? [", ", page] : "", ".") : null,
    made.already ? el("p", {}, T.receiptAlready) : null,
    el("p", { class: "quiet" }, T.receiptAt, instant(made.at)),
  ];
}
