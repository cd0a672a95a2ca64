/** Small helpers for the modules that touch the page. What users wrote is only ever text. */

/**
 * The element of an id, and of a class where one is given; throws where the page has none.
 *
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @param {new () => T} [type]
 * @returns {T}
 */
export function byId(id, type) {
  return checked(document.getElementById(id), `#${id}`, type);
}

/**
 * The same for the first element inside another that a selector matches.
 *
 * @template {HTMLElement} [T=HTMLElement]
 * @param {ParentNode} place
 * @param {string} selector
 * @param {new () => T} [type]
 * @returns {T}
 */
export function within(place, selector, type) {
  return checked(place.querySelector(selector), selector, type);
}

/**
 * @template {HTMLElement} T
 * @param {Element | null} element
 * @param {string} name
 * @param {new () => T} [type]
 * @returns {T}
 */
function checked(element, name, type) {
  if (element instanceof (type ?? HTMLElement)) return /** @type {T} */ (element);
  throw new Error(`the page has no ${type?.name ?? "element"} ${name}`);
}

/**
 * The elements of these classes inside another, by class.
 *
 * @template {string} Name
 * @param {HTMLElement} element
 * @param {Name[]} classNames
 */
export function partsOf(element, classNames) {
  const parts = classNames.map((name) => [name, within(element, `.${name}`)]);
  return /** @type {Record<Name, HTMLElement>} */ (Object.fromEntries(parts));
}

/**
 * Set an element's text where it differs; return whether it did.
 *
 * @param {HTMLElement} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent === text) return false;
  element.textContent = text;
  return true;
}

/**
 * Set an element's text, and hide the element when there is none.
 *
 * @param {HTMLElement} element
 * @param {string} text
 */
export function textOrHide(element, text) {
  setText(element, text);
  element.hidden = text === "";
}

/**
 * Set a text that may be cut off, so that it can still be read whole.
 *
 * @param {HTMLElement} element
 * @param {string} text
 */
export function cutText(element, text) {
  if (setText(element, text)) element.title = text;
}

/**
 * A copy of what is in a template.
 *
 * @param {string} id
 */
export function clone(id) {
  const { firstElementChild } = byId(id, HTMLTemplateElement).content;
  return checked(/** @type {Element | null} */ (firstElementChild?.cloneNode(true) ?? null), `of #${id}`, HTMLElement);
}

/**
 * An element with text; `properties` are set as such, not as attributes.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} [text]
 * @param {Partial<HTMLElementTagNameMap[Tag]>} [properties]
 */
export function make(tag, text = "", properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  if (text) element.textContent = text;
  return element;
}

/**
 * The run of the row that an element is in; null where it is in none.
 *
 * @param {EventTarget | null} target
 */
export function runAt(target) {
  const row = target instanceof Element ? target.closest("[data-run]") : null;
  return (row instanceof HTMLElement && row.dataset.run) || null;
}

/**
 * Whether what is typed now is meant for a field.
 *
 * @param {EventTarget | null} target
 */
export function isTyping(target) {
  const fields = "input:not([type=checkbox], [type=radio]), textarea, select";
  return target instanceof Element && target.matches(fields);
}

/**
 * Whether a click on a row is meant to open it: not in another tab, and not as the end of a selection.
 *
 * @param {MouseEvent} click
 */
export const opensRow = ({ ctrlKey, metaKey }) => !ctrlKey && !metaKey && getSelection()?.toString() === "";

/**
 * Call `act` for a click that is not meant to open another tab.
 *
 * @param {HTMLElement} link
 * @param {(click: MouseEvent) => void} act
 */
export function onPlainClick(link, act) {
  link.addEventListener("click", (click) => {
    if (click.ctrlKey || click.metaKey || click.shiftKey || click.button !== 0) return;
    click.preventDefault();
    act(click);
  });
}
