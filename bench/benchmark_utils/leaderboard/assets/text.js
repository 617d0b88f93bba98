"use strict";
// Elements and numbers. Data reaches the document as text nodes and attributes only, never as HTML.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "path", "line", "rect", "circle", "text", "clipPath", "defs"]);
const MISSING = "–";

// An element with attributes (null leaves one out, "--x" is a CSS variable) and children (text or elements).
function h(tag, attributes = {}, ...children) {
  const element = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

const byId = (id) => document.getElementById(id);
const withMinus = (text) => text.replace("-", "−");
const fixed = (value, digits) => {
  const text = value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return /[1-9]/.test(text) ? withMinus(text) : text.replace("-", ""); // what rounds to 0 is not −0
};
const compact = (value) => withMinus(value.toLocaleString("en", { notation: "compact", maximumSignificantDigits: 3 }));
const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

// Digits after the point that leave a typical one of these values three significant ones, four at most.
function digitsFor(values) {
  const sizes = values
    .map(Math.abs)
    .filter((size) => size > 0)
    .sort((a, b) => a - b);
  if (!sizes.length) return 0;
  return Math.min(4, Math.max(0, 2 - Math.floor(Math.log10(sizes[sizes.length >> 1]))));
}

// "mean ± sd" as text; of one seed there is no spread.
function spread(value, digits = digitsFor([value.mean])) {
  const mean = fixed(value.mean, digits);
  return hasSpread(value) ? `${mean} ± ${fixed(value.sd, digits)}` : mean;
}

const isThere = (value) => value !== undefined && value !== null && Number.isFinite(value.mean);
const hasSpread = (value) => value.n > 1 && Number.isFinite(value.sd);
