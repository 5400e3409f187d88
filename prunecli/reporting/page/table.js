const PAGE = 50;
const BINS = 21; // centred on 0, 5, ..., 100 percent: amounts are round numbers

const COLUMNS = [
  { title: "name", get: (index) => index },
  { title: "shape", wide: true, get: (index) => data.elements[index] },
  { title: "type", wide: true, get: (index) => data.dtype[index] },
  { title: "state", wide: true, get: (index) => data.state[index] },
  { title: "elements", wide: true, number: true, get: (index) => data.elements[index] },
  { title: "zeros", wide: true, number: true, get: (index) => data.zeros[index] ?? -1 },
  { title: "sparsity", number: true, get: (index) => sparsity(index) ?? -1 },
];

const view = { order: [], bin: null, words: [], sort: 0, down: false, page: 0 };
const searchable = [];

function binOf(index) {
  const share = sparsity(index);
  return share === null ? null : Math.round(share * (BINS - 1));
}

function matches(index) {
  if (view.bin !== null && binOf(index) !== view.bin) return false;
  return view.words.every((word) => (searchable[index] ??= names[index].toLowerCase()).includes(word));
}

function refresh() {
  const { get } = COLUMNS[view.sort];
  const sign = view.down ? -1 : 1;
  view.order = names.map((_, index) => index).filter(matches);
  view.order.sort((one, other) => sign * (get(one) - get(other)) || one - other);
  view.page = 0;
  showPage();
}

function tableRow(index) {
  const row = make("tr");
  const cells = ["", data.shapes[data.shape[index]], data.dtypes[data.dtype[index]], data.states[data.state[index]],
    grouped.format(data.elements[index]), data.zeros[index] === null ? "" : grouped.format(data.zeros[index]), shown(index)];
  COLUMNS.forEach((column, at) => {
    const cell = make("td", (column.number ? "number " : "") + (column.wide ? "wide" : ""), cells[at]);
    if (at === 0) cell.append(link(names[index], index));
    row.append(cell);
  });
  return row;
}

function showPage() {
  const pages = Math.max(1, Math.ceil(view.order.length / PAGE));
  const rows = view.order.slice(view.page * PAGE, (view.page + 1) * PAGE).map(tableRow);
  document.getElementById("rows").replaceChildren(...rows);
  document.getElementById("found").textContent =
    view.order.length === names.length ? "" : grouped.format(view.order.length) + " of " + grouped.format(names.length);
  document.getElementById("page").textContent = "page " + grouped.format(view.page + 1) + " of " + grouped.format(pages);
  document.getElementById("previous").disabled = view.page === 0;
  document.getElementById("next").disabled = view.page + 1 >= pages;
  document.querySelectorAll("#headings th").forEach((cell, at) => {
    if (at === view.sort) cell.setAttribute("aria-sort", view.down ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  });
}

function turn(by) {
  view.page += by;
  showPage();
}

function choose(bin) {
  view.bin = view.bin === bin ? null : bin;
  document.querySelectorAll("#histogram button").forEach((button, at) => button.setAttribute("aria-pressed", at === view.bin));
  const clear = document.getElementById("clear");
  clear.hidden = view.bin === null;
  clear.textContent = "about " + 5 * view.bin + "% zeros ×";
  clear.setAttribute("aria-label", "Show parameters of any sparsity again");
  refresh();
}

function drawHistogram() {
  const counts = new Array(BINS).fill(0);
  names.forEach((_, index) => {
    const bin = binOf(index);
    if (bin !== null) counts[bin] += 1;
  });
  const most = Math.max(1, ...counts);
  counts.forEach((count, bin) => {
    const button = make("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-label", "about " + 5 * bin + "% zeros: " + grouped.format(count) + " parameters");
    button.title = button.getAttribute("aria-label");
    const column = make("span", "column");
    if (count) column.style.height = Math.max(1.5, (75 * count) / most) + "%";
    button.append(make("span", "count", count ? grouped.format(count) : ""), column);
    button.append(make("span", "tick", bin % 5 === 0 ? 5 * bin + "%" : ""));
    button.addEventListener("click", () => choose(bin));
    document.getElementById("histogram").append(button);
  });
}

COLUMNS.forEach((column, at) => {
  const cell = make("th", (column.number ? "number " : "") + (column.wide ? "wide" : ""));
  cell.scope = "col";
  const button = make("button", "", column.title);
  button.type = "button";
  button.addEventListener("click", () => {
    view.down = view.sort === at ? !view.down : Boolean(column.number);
    view.sort = at;
    refresh();
  });
  cell.append(button);
  document.getElementById("headings").append(cell);
});
document.getElementById("search").addEventListener("input", (event) => {
  view.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  refresh();
});
document.getElementById("clear").addEventListener("click", () => choose(view.bin));
document.getElementById("previous").addEventListener("click", () => turn(-1));
document.getElementById("next").addEventListener("click", () => turn(1));
drawHistogram();
refresh();
