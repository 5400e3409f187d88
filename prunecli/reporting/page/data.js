"use strict";

// All that a checkpoint names comes from here, and reaches the page as text alone (textContent, never innerHTML).
const data = JSON.parse(document.getElementById("data").textContent);

const names = [];
for (let at = 0; at < data.names.length; at += 2) {
  const before = names.length ? names[names.length - 1] : "";
  names.push(before.slice(0, data.names[at]) + data.names[at + 1]);
}

const grouped = new Intl.NumberFormat("en-US");

// As in the other forms of the report: what is not none or all of it is never rounded to 0 or 100.
function percent(part, whole) {
  const text = (whole ? (100 * part) / whole : 0).toFixed(2) + "%";
  if (part > 0 && text === "0.00%") return "<0.01%";
  return part < whole && text === "100.00%" ? ">99.99%" : text;
}

function sparsity(index) {
  const zeros = data.zeros[index];
  if (zeros === null) return null;
  return data.elements[index] ? zeros / data.elements[index] : 0;
}

function shown(index) {
  return data.zeros[index] === null ? "" : percent(data.zeros[index], data.elements[index]);
}

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// A name may be broken after its dots and underscores; what is copied from the page is the name alone.
function breakable(node, name) {
  node.replaceChildren(...name.split(/(?<=[._])/).flatMap((part) => [part, document.createElement("wbr")]).slice(0, -1));
  return node;
}

function bar(share) {
  const outer = make("span", "bar");
  outer.setAttribute("aria-hidden", "true");
  const inner = make("span");
  inner.style.width = 100 * share + "%";
  outer.append(inner);
  return outer;
}

function link(text, index) {
  const button = breakable(make("button", "link name"), text);
  button.type = "button";
  button.addEventListener("click", () => openDetail(index));
  return button;
}

document.title = "Sparsity of " + data.path;
document.getElementById("title").textContent = data.path;
document.getElementById("origin").textContent = data.kind;
