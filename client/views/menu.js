/**
 * The settings of this browser: the reader's name, colours, keys; and signing out.
 *
 *   const menu = new Menu({ rename, signOut, help });
 *   menu.show({ name: "ana", claims: null });     // claims of the token, where there is one
 *   menu.singleKeys                               // whether single keys give commands
 */

import { byId, setText, within } from "../browser/dom.js";
import { keep, recall } from "../browser/storage.js";
import { setTheme, theme } from "../browser/theme.js";

/** @import { Claims } from "../models/token.js" */

export class Menu {
  #name = byId("name", HTMLInputElement);

  /** @param {{ rename: (name: string) => void, signOut: () => void, help: () => void }} actions */
  constructor({ rename, signOut, help }) {
    this.#name.addEventListener("change", () => rename(this.#name.value.trim()));
    byId("sign-out").addEventListener("click", () => {
      hide();
      signOut();
    });
    byId("help-button").addEventListener("click", () => {
      hide();
      help();
    });
    for (const radio of byId("theme").querySelectorAll("input")) {
      radio.checked = radio.value === theme();
      radio.addEventListener("change", () => setTheme(radio.value));
    }
    const keys = byId("keys", HTMLInputElement);
    keys.checked = this.singleKeys;
    keys.addEventListener("change", () => keep("keys", keys.checked ? "" : "off"));
  }

  get singleKeys() {
    return recall("keys") !== "off";
  }

  /** @param {{ name: string, claims: Claims | null }} reader */
  show({ name, claims }) {
    this.#name.value = name;
    byId("your-name").hidden = claims !== null;
    byId("signed-in").hidden = claims === null;
    if (claims) setText(within(byId("signed-in"), ".text"), `Signed in as ${claims.name}, ${claims.role}.`);
    setText(byId("who"), claims?.name || name || "Settings");
    byId("menu-button").setAttribute("aria-label", `Settings of ${claims?.name || name || "this page"}`);
  }
}

/** The popover; a browser without those shows its content in place. */
const hide = () => byId("menu").hidePopover?.();
