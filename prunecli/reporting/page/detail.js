// One parameter: its facts, and where its zeros lie. The fragment `#parameter=NAME` opens one, too.
const dialog = document.getElementById("detail");
const canvas = document.getElementById("d-canvas");
const PROFILE = 44;
const SPACE = 6;
let opened = null;

function colours() {
  const style = getComputedStyle(document.documentElement);
  const rgb = (name) => style.getPropertyValue(name).trim().match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16));
  return { none: rgb("--none"), all: rgb("--all"), mark: style.getPropertyValue("--mark"), track: style.getPropertyValue("--track") };
}

function cellsOf(index) {
  const [rows, columns, text] = data.pictures[index];
  return { rows, columns, shares: Uint8Array.from(atob(text), (char) => char.charCodeAt(0)) };
}

function means(count, other, at) {
  return Array.from({ length: count }, (_, one) => {
    let sum = 0;
    for (let two = 0; two < other; two += 1) sum += at(one, two);
    return sum / other / 255;
  });
}

// Cells and profiles in whole device pixels, so that no cell is wider than its neighbour.
function drawPicture(index) {
  const { rows, columns, shares } = cellsOf(index);
  const ratio = window.devicePixelRatio || 1;
  const room = Math.min(440, dialog.clientWidth - 40) * ratio;
  const extra = (PROFILE + SPACE) * ratio;
  const fit = (count, most) => Math.max(1, Math.min(Math.floor(most / count), Math.ceil(24 * ratio)));
  const wide = fit(columns, room - extra);
  const high = fit(rows, Math.min(room - extra, 420 * ratio));
  canvas.width = columns * wide + extra;
  canvas.height = rows * high + extra;
  canvas.style.width = canvas.width / ratio + "px";
  const { none, all, mark, track } = colours();
  const pen = canvas.getContext("2d");
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const share = shares[row * columns + column] / 255;
      const mix = none.map((from, part) => Math.round(from + share * (all[part] - from)));
      pen.fillStyle = "rgb(" + mix.join(",") + ")";
      pen.fillRect(column * wide, row * high, wide, high);
    }
  }
  const right = columns * wide + SPACE * ratio;
  const below = rows * high + SPACE * ratio;
  const long = PROFILE * ratio;
  pen.fillStyle = track;
  pen.fillRect(right, 0, long, rows * high);
  pen.fillRect(0, below, columns * wide, long);
  pen.fillStyle = mark;
  means(rows, columns, (row, column) => shares[row * columns + column]).forEach((mean, row) => {
    pen.fillRect(right, row * high, Math.round(mean * long), high);
  });
  means(columns, rows, (column, row) => shares[row * columns + column]).forEach((mean, column) => {
    pen.fillRect(column * wide, below, wide, Math.round(mean * long));
  });
  canvas.setAttribute("aria-label", "Map of the zeros, " + rows + " by " + columns + " cells");
  const size = data.structure[index];
  const exact = size[0] % rows === 0 && size[2] % columns === 0;
  const part = grouped.format(Math.round(size[0] / rows)) + " × " + grouped.format(Math.round(size[2] / columns));
  document.getElementById("d-caption").textContent =
    "A cell shows the share of zeros in " + (exact ? "" : "about ") + part + " elements (rows × columns). " +
    "Beside it the share by row, below it by column; a full bar is all zeros.";
}

function factsOf(index) {
  const facts = [
    ["shape", data.shapes[data.shape[index]]], ["type", data.dtypes[data.dtype[index]]],
    ["state", data.states[data.state[index]]], ["elements", grouped.format(data.elements[index])],
  ];
  if (data.zeros[index] !== null) facts.push(["zeros", grouped.format(data.zeros[index]) + "  (" + shown(index) + ")"]);
  if (data.pruned[index]) facts.push(["pruned now", grouped.format(data.pruned[index])]);
  if (data.tied[index]) facts.push(["tied to", data.tied[index].join(", ")]);
  const found = data.structure[index];
  if (found) {
    const of = (part, whole) => grouped.format(part) + " of " + grouped.format(whole);
    facts.push(["empty rows", of(found[1], found[0])], ["empty columns", of(found[3], found[2])]);
    facts.push(["empty 16x16 blocks", of(found[5], found[4])]);
    const along = found[10] === null ? "" : " along dimension " + found[10];
    const groups = (part, whole) => of(part, whole) + along + "  (" + percent(part, whole) + ")";
    if (found[6]) facts.push(["2 zeros in 4", groups(found[7], found[6])]);
    if (found[8]) facts.push(["4 zeros in 8", groups(found[9], found[8])]);
  }
  if (data.patterns[index]) facts.push(["N:M pattern", data.patterns[index]]);
  return facts;
}

function openDetail(index) {
  opened = index;
  breakable(document.getElementById("d-name"), names[index]);
  const list = document.getElementById("d-facts");
  list.replaceChildren(...factsOf(index).flatMap(([term, text]) => [make("dt", "", term), make("dd", "", text)]));
  const pictured = index in data.pictures;
  document.getElementById("d-picture").hidden = !pictured;
  document.getElementById("d-none").textContent = pictured ? "" : data.unpictured;
  if (!dialog.open) dialog.showModal();
  if (pictured) drawPicture(index);
  history.replaceState(null, "", "#parameter=" + encodeURIComponent(names[index]));
}

function openFragment() {
  const found = /^#parameter=(.*)$/.exec(location.hash);
  if (!found) return;
  let name = "";
  try {
    name = decodeURIComponent(found[1]);
  } catch {
    return; // a fragment typed by hand need not be well-formed
  }
  const index = names.indexOf(name);
  if (index >= 0) openDetail(index);
}

dialog.addEventListener("close", () => {
  opened = null;
  history.replaceState(null, "", location.pathname + location.search);
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
document.getElementById("close").addEventListener("click", () => dialog.close());
const redraw = () => {
  if (opened !== null && opened in data.pictures) drawPicture(opened);
};
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
window.addEventListener("resize", redraw);
window.addEventListener("hashchange", openFragment);
openFragment();
