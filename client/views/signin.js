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

import { byId, setText } from "../browser/dom.js";
import { keep, recall, tab } from "../browser/storage.js";
import { claims, tokenOf } from "../models/token.js";

export class SignIn {
  #signedIn;
  #section = byId("sign-in");

  constructor(signedIn) {
    this.#signedIn = signedIn;
    this.#takeFromLink();
    addEventListener("hashchange", () => this.#takeFromLink() && signedIn());
    this.#section.querySelector("form").addEventListener("submit", (submit) => {
      submit.preventDefault();
      const { token } = submit.target.elements;
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
    return this.claims === null || this.claims.role === "operator";
  }

  get asking() {
    return !this.#section.hidden;
  }

  ask(why) {
    setText(this.#section.querySelector(".why"), why);
    if (this.asking) return;
    this.#section.hidden = false;
    byId("token").focus();
  }

  hide() {
    this.#section.hidden = true;
  }

  out() {
    keep("token", "", tab);
    this.#signedIn();
  }

  #takeFromLink() {
    const token = tokenOf(location.hash);
    if (token === null) return false;
    keep("token", token, tab);
    history.replaceState(history.state, "", location.pathname + location.search);
    return true;
  }
}
