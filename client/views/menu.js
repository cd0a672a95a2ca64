/**
 * The settings of this browser: the reader's name, colours, keys; and signing out.
 *
 *   const menu = new Menu({ rename, signOut, help });
 *   menu.show({ name: "ana", claims: null });     // claims of the token, where there is one
 *   menu.singleKeys                               // whether single keys give commands
 */

import { byId, setText } from "../browser/dom.js";
import { keep, recall } from "../browser/storage.js";
import { setTheme, theme } from "../browser/theme.js";

export class Menu {
  constructor({ rename, signOut, help }) {
    byId("name").addEventListener("change", ({ target }) => rename(target.value.trim()));
    byId("sign-out").addEventListener("click", () => {
      byId("menu").hidePopover?.();
      signOut();
    });
    byId("help-button").addEventListener("click", () => {
      byId("menu").hidePopover?.();
      help();
    });
    for (const radio of document.querySelectorAll("[name=theme]")) {
      radio.checked = radio.value === theme();
      radio.addEventListener("change", () => setTheme(radio.value));
    }
    byId("keys").checked = this.singleKeys;
    byId("keys").addEventListener("change", ({ target }) => keep("keys", target.checked ? "" : "off"));
  }

  get singleKeys() {
    return recall("keys") !== "off";
  }

  show({ name, claims }) {
    byId("name").value = name;
    byId("name").parentElement.hidden = claims !== null;
    byId("signed-in").hidden = claims === null;
    if (claims) setText(byId("signed-in").querySelector(".text"), `Signed in as ${claims.name}, ${claims.role}.`);
    setText(byId("who"), claims?.name || name || "Settings");
    byId("menu-button").setAttribute("aria-label", `Settings of ${claims?.name || name || "this page"}`);
  }
}
