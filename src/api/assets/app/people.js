// People: who works at the desk, with which rights and queues; inviting by a one-time link.
import { copyButton, el } from "./dom.js";
import { get, post } from "./api.js";
import { attempt, desk, t } from "./desk.js";
import { deliveries } from "./deliveries.js";
import { keys } from "./keys.js";

const list = (text) => text.split(/[,\s]+/).filter(Boolean);

export function showPeople(place) {
  let gone = false;
  const rows = el("tbody", {});
  const role = (value) => el("select", { "aria-label": t("role") }, ["operator", "lead"].map((name) => el("option", { value: name, selected: name === value }, t(`role_${name}`))));
  const fresh = { name: el("input", { required: true, maxlength: 60 }), role: role("operator"), teams: el("input", { maxlength: 200, placeholder: t("allTeams") }) };
  const link = el("div", { class: "invited", hidden: true, role: "status" });
  const form = el("form", { class: "stack", onsubmit: async (event) => {
    event.preventDefault();
    const got = await attempt(() => post("/people", { name: fresh.name.value.trim(), role: fresh.role.value, teams: list(fresh.teams.value) }));
    if (!got) return;
    const url = new URL(got.join_url, location.href).href;
    link.replaceChildren(el("span", {}, t("linkReady")), el("code", {}, url), copyButton(() => url, { copy: t("copy"), copied: t("copied") }, "button"));
    link.hidden = false;
    fresh.name.value = "";
    load();
  } }, el("h2", {}, t("invite")), el("p", { class: "soft" }, t("inviteText")),
  el("div", { class: "row top" }, el("label", { class: "grow" }, t("theirName"), fresh.name), el("label", {}, t("role"), fresh.role), el("label", {}, t("teams"), fresh.teams, el("small", {}, t("teamsHint")))),
  el("div", { class: "row end" }, el("button", { class: "button main" }, t("makeLink"))), link);

  function row(person) {
    const change = (body) => attempt(() => post(`/people/${encodeURIComponent(person.id)}`, body)).then(load);
    const isMe = person.login === desk.me.login;
    const roles = role(person.role);
    roles.disabled = isMe;
    roles.addEventListener("change", () => change({ role: roles.value }));
    const teams = el("input", { value: (person.teams ?? []).join(", "), placeholder: t("allTeams"), "aria-label": t("teams") });
    teams.addEventListener("change", () => change({ teams: list(teams.value) }));
    const active = el("input", { type: "checkbox", role: "switch", checked: person.active, disabled: isMe });
    active.addEventListener("change", () => change({ active: active.checked }));
    return el("tr", { class: person.active ? "" : "off" }, el("th", { scope: "row" }, person.name, el("span", { class: "faint" }, person.login ?? "")), el("td", {}, roles), el("td", {}, teams),
      el("td", {}, el("label", { class: "switch" }, active, el("span", {}, t(person.active ? "active" : "inactive")))));
  }

  async function load() {
    const got = await attempt(() => get("/people"));
    if (got && !gone) rows.replaceChildren(...got.items.map(row));
  }

  place.append(el("div", { class: "scroll" }, el("div", { class: "people" },
    el("section", { class: "card wide-table" }, el("table", {}, el("thead", {}, el("tr", {}, ["person", "role", "teams", "active"].map((word) => el("th", { scope: "col" }, t(word))))), rows)),
    el("section", { class: "card" }, form), deliveries())));
  keys({});
  load();
  return { leave() { gone = true; } };
}
