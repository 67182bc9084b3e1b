// Elements from plain values, and a page brought up to date in place: what did not change is not touched, so focus,
// scroll position and open details stay. Text is always text; nothing here reads HTML.

const SVG = "http://www.w3.org/2000/svg";
const DRAWN = new Set(["svg", "g", "path", "line", "rect", "circle", "text", "title"]);

/** Make an element: `h("a", { href: "x" }, "text", child)`. Keys that begin with `on` are handlers. */
export function h(name, attributes = {}, ...children) {
  const made = DRAWN.has(name) ? document.createElementNS(SVG, name) : document.createElement(name);
  made.handlers = {};
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made[key] = made.handlers[key] = value;
    else made.setAttribute(key, value === true ? "" : String(value));
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** Make what a parent holds look like these children, keeping every node that can stay. */
export function show(parent, ...children) {
  matchChildren(parent, children.flat(Infinity).filter(Boolean));
}

function matchChildren(parent, wanted) {
  wanted.forEach((want, place) => {
    const have = parent.childNodes[place];
    if (!have) parent.append(want);
    else if (!isSame(have, want)) have.replaceWith(want);
    else match(have, want);
  });
  while (parent.childNodes.length > wanted.length) parent.lastChild.remove();
}

function isSame(have, want) {
  if (typeof want === "string") return have.nodeType === Node.TEXT_NODE;
  return have.nodeName === want.nodeName && have.dataset?.key === want.dataset?.key;
}

function match(have, want) {
  if (have.nodeType === Node.TEXT_NODE) {
    const text = typeof want === "string" ? want : want.data;
    if (have.data !== text) have.data = text;
    return;
  }
  // What a reader opened stays open.
  const kept = have.nodeName === "DETAILS" ? "open" : null;
  for (const { name } of [...have.attributes]) {
    if (name !== kept && !want.hasAttribute(name)) have.removeAttribute(name);
  }
  for (const { name, value } of want.attributes) {
    if (have.getAttribute(name) !== value) have.setAttribute(name, value);
  }
  Object.assign(have, want.handlers);
  matchChildren(have, [...want.childNodes]);
  if (have.nodeName === "SELECT" && document.activeElement !== have) {
    have.value = want.querySelector("option[selected]")?.value ?? have.value;
  }
}
