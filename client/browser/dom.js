/** Small helpers for the modules that touch the page. What users wrote is only ever text. */

export const byId = (id) => document.getElementById(id);

/** Set an element's text where it differs; return whether it did. */
export function setText(element, text) {
  if (element.textContent === text) return false;
  element.textContent = text;
  return true;
}

/** Set an element's text, and hide the element when there is none. */
export function textOrHide(element, text) {
  setText(element, text);
  element.hidden = text === "";
}

/** Set a text that may be cut off, so that it can still be read whole. */
export function cutText(element, text) {
  if (setText(element, text)) element.title = text;
}

export const clone = (id) => byId(id).content.firstElementChild.cloneNode(true);

/** The elements of these classes inside another, by class. */
export function partsOf(element, classNames) {
  return Object.fromEntries(classNames.map((name) => [name, element.querySelector(`.${name}`)]));
}

/** An element with text; `attributes` are set as properties. */
export function make(tag, text = "", properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  if (text) element.textContent = text;
  return element;
}

/** Whether what is typed now is meant for a field. */
export function isTyping(target) {
  return target.matches?.("input:not([type=checkbox], [type=radio]), textarea, select") ?? false;
}

/** Call `act` for a click that is not meant to open another tab. */
export function onPlainClick(link, act) {
  link.addEventListener("click", (click) => {
    if (click.ctrlKey || click.metaKey || click.shiftKey || click.button !== 0) return;
    click.preventDefault();
    act(click);
  });
}
