// Signing in, and joining by a one-time link.
import { el } from "./dom.js";
import { post } from "./api.js";
import { t } from "./desk.js";

/** Shows the right form for the address; calls `entered()` when the server has set the session. */
export function showSignIn(app, entered, otherLanguage) {
  const token = location.pathname.startsWith("/console/join") ? new URLSearchParams(location.search).get("token") : null;
  const fields = {
    name: el("input", { autocomplete: "name", required: true, maxlength: 60 }),
    login: el("input", { autocomplete: "username", required: true, maxlength: 60, autocapitalize: "none", spellcheck: "false" }),
    password: el("input", { type: "password", required: true, minlength: token ? 10 : 1, autocomplete: token ? "new-password" : "current-password" }),
  };
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const button = el("button", { class: "button main wide" }, t(token ? "joinNow" : "signIn"));
  const form = el("form", { class: "stack", onsubmit: async (event) => {
    event.preventDefault();
    button.disabled = true;
    problem.hidden = true;
    try {
      const values = Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.value]));
      if (token) await post("/join", { token, ...values });
      else await post("/login", { login: values.login, password: values.password });
      await entered();
    } catch (error) {
      problem.textContent = error.status === 401 && !token ? t("wrongLogin") : error.status === 0 ? t("offline") : error.message;
      problem.hidden = false;
      button.disabled = false;
    }
  } },
  token ? el("label", {}, t("name"), fields.name) : null,
  el("label", {}, t("login"), fields.login),
  el("label", {}, t("password"), fields.password, token ? el("small", {}, t("passwordHint")) : null),
  problem, button);
  app.replaceChildren(el("main", { class: "sign-in" }, el("section", {},
    el("img", { src: "/console/assets/logo.svg", alt: "", width: 44, height: 44 }),
    el("h1", {}, t(token ? "join" : "signIn")), el("p", { class: "soft" }, t(token ? "joinText" : "signInText")), form,
    el("button", { type: "button", class: "plain", onclick: otherLanguage }, t("otherLanguage")))));
  document.title = `${t(token ? "join" : "signIn")} · Firstline`;
  (token ? fields.name : fields.login).focus();
}
