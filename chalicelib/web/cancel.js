// The cancel dialog: says exactly what will happen, asks why without demanding it, shows a refusal in place.
import { el, instant, named, names, problem } from "./parts.js";
import { T } from "./texts.js";

/** Ask, then `send({when?, reason?, comment?})`. Resolves to its result, to "there" for the processor's own page, or to null: kept. */
export function askToCancel(server, sub, send) {
  return new Promise((resolve, reject) => {
    const [later, atOnce] = ["cancel", "cancel_now"].map((name) => sub.actions.includes(name));
    const both = later && atOnce && !endsAnyway(sub) && !sub.begins_at;
    let busy = false, now = !later;
    const reason = el("select", { id: "reason" }, el("option", { value: "" }, T.noReason),
      Object.entries(T.reasons).map(([value, words]) => el("option", { value }, words)));
    const comment = el("textarea", { id: "comment", rows: "3", maxlength: "500" });
    const failed = el("div", { class: "note is-bad", role: "alert", tabindex: "-1", hidden: true });
    const go = el("button", { type: "submit", class: "main grave" });
    const what = el("div", { id: "cancel-what", "aria-live": "polite" });
    const name = sub.offer ? named(sub.offer.name) : T.noOffer;
    const end = (result) => { if (!busy) { dialog.close(); dialog.remove(); resolve(result); } };
    const form = el("form", {},
      el("h2", { id: "cancel-title", tabindex: "-1", autofocus: true }, T.cancelTitle[0], name, T.cancelTitle[1], named(server.name), T.cancelTitle[2]),
      both ? el("fieldset", {}, el("legend", {}, T.cancelWhen), choice(false, T.cancelAtEnd), choice(true, T.cancelAtOnce)) : "", what,
      el("label", { for: "reason" }, T.cancelReason), reason,
      el("label", { for: "comment" }, T.cancelComment), comment,
      el("p", { class: "quiet" }, T.cancelShown), failed,
      el("div", { class: "row end" }, el("button", { type: "button", press: () => end(null) }, T.cancelNot), go),
      later && el("p", {}, el("button", { type: "button", class: "plain", press: () => end("there") }, T.cancelAt[sub.processor])));
    const dialog = el("dialog", { "aria-labelledby": "cancel-title", "aria-describedby": "cancel-what" }, form);
    dialog.addEventListener("cancel", (event) => { event.preventDefault(); end(null); });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (busy) return;
      wait(true);
      try {
        const result = await send({ ...(now && { when: "now" }), ...(reason.value && { reason: reason.value }), ...(comment.value.trim() && { comment: comment.value.trim() }) });
        busy = false;
        end(result);
      } catch (error) {
        wait(false);
        if (error.status === 401) return end(reject(error));
        failed.replaceChildren(el("div", {}, problem(error)));
        failed.hidden = false;
        failed.focus();
      }
    });
    function choice(value, words) {
      const input = el("input", { type: "radio", name: "when", value: value ? "now" : "period_end", checked: value === now });
      input.addEventListener("change", () => choose(value));
      return el("label", { class: "choice" }, input, " ", words);
    }
    function choose(value) {
      now = value;
      what.replaceChildren(...consequences(server, sub, now).filter(Boolean));
      wait(busy);
    }
    function wait(on) {
      busy = on;
      go.textContent = on ? T.working : now ? T.cancelNowDo : T.cancelDo;
      for (const one of form.querySelectorAll("button")) one.setAttribute("aria-disabled", on);
      for (const one of form.querySelectorAll("input")) one.disabled = on;
    }
    choose(now);
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** At PayPal nothing is left of what is not paid: its grace ends with a cancellation. */
const endsAnyway = (sub) => sub.processor === "paypal" && sub.state === "grace" && !sub.paid_until;

function consequences(server, sub, now) {
  const gives = server.roles.filter((role) => sub.role_ids.includes(role.id) && role.state !== "ending");
  const stays = gives.filter((role) => role.subscriptions.some((id) => id !== sub.id));
  const goes = gives.filter((role) => !stays.includes(role));
  const paypal = sub.processor === "paypal";
  const until = sub.state === "on_hold" ? null : paypal ? sub.paid_until : sub.renews_at ?? sub.access_until;   // the earliest item ends it
  const line = (words, list) => list.length > 0 && el("p", {}, words, names(list.map((role) => role.name)), ".");
  if (now && !sub.begins_at) return [el("p", {}, el("strong", {}, until ? T.cancelNowWhat : T.cancelNowNothing), " ", T.cancelNowCharge), line(T.cancelNowRoles, goes), line(T.cancelStays, stays)];
  if (sub.begins_at) return [el("p", {}, T.cancelUnbegun)];
  if (endsAnyway(sub)) return [el("p", {}, T.cancelUnpaid), line(T.cancelNowRoles, goes), line(T.cancelStays, stays)];
  if (paypal && sub.state === "active" && !until) return [el("p", {}, T.cancelUnbooked), line(T.cancelNowRoles, goes), line(T.cancelStays, stays)];
  return [
    until ? el("p", {}, T.cancelKeep, el("strong", {}, instant(until)), ". ",
                          paypal ? T.cancelPaypal : sub.state === "grace" ? T.cancelGrace : T.cancelCharge) : el("p", {}, T.cancelNothing),
    line(T.cancelRoles, goes), line(T.cancelStays, stays)];
}
