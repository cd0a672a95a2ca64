/**
 * Asks for a token where the server wants one, and keeps it for this tab.
 *
 *   const signIn = new SignIn(signedIn);   // signedIn() when there is another token
 *   signIn.token; signIn.claims;           // null where there is none
 *   signIn.ask("The token has expired."); signIn.hide(); signIn.out();
 *
 * A link can bring a token in its fragment, `#token=…`: browsers do not send that to servers, and it
 * is taken out of the address at once.
 */

import { byId, setText, within } from "../browser/dom.js";
import { keep, recall, tab } from "../browser/storage.js";
import { claims, tokenOf } from "../models/token.js";

export class SignIn {
  #signedIn;
  #section = byId("sign-in");

  /** @param {() => void} signedIn */
  constructor(signedIn) {
    this.#signedIn = signedIn;
    this.#takeFromLink();
    addEventListener("hashchange", () => this.#takeFromLink() && signedIn());
    within(this.#section, "form").addEventListener("submit", (submit) => {
      submit.preventDefault();
      const token = byId("token", HTMLInputElement);
      keep("token", token.value.trim(), tab);
      token.value = "";
      signedIn();
    });
  }

  get token() {
    return recall("token", tab);
  }

  get claims() {
    return this.token ? claims(this.token) : null;
  }

  /** Whether commands may be given, as far as the token says; the server decides. */
  get operator() {
    return (this.claims?.role ?? "operator") === "operator";
  }

  get asking() {
    return !this.#section.hidden;
  }

  /** @param {string} why */
  ask(why) {
    setText(within(this.#section, ".why"), why);
    if (this.asking) return;
    this.#show(true);
    byId("token").focus();
  }

  hide() {
    this.#show(false);
  }

  out() {
    keep("token", "", tab);
    this.#signedIn();
  }

  /** @param {boolean} shown */
  #show(shown) {
    this.#section.hidden = !shown;
    document.body.classList.toggle("signing-in", shown);
  }

  #takeFromLink() {
    const token = tokenOf(location.hash);
    if (token === null) return false;
    keep("token", token, tab);
    history.replaceState(history.state, "", location.pathname + location.search);
    return true;
  }
}
