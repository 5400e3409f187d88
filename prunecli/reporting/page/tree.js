// A module is [label, elements, zeros, children], a parameter [label, index].
const ROWS_AT_FIRST = 30;
const MOST_CHILDREN = 200;

function treeRow(tag, name, elements, zeros) {
  const row = make(tag, tag === "div" ? "leaf" : "");
  const counted = zeros !== null;
  row.append(name, counted ? bar(elements ? zeros / elements : 0) : make("span"));
  row.append(make("span", "right", counted ? percent(zeros, elements) : ""));
  row.append(make("span", "right elements dim", grouped.format(elements)));
  return row;
}

function treeItem(node, level, openLevels) {
  const item = make("li");
  if (node.length === 2) {
    const index = node[1];
    const name = make("span", "name");
    name.append(link(node[0], index));
    item.append(treeRow("div", name, data.elements[index], data.zeros[index]));
    return item;
  }
  const details = make("details");
  details.append(treeRow("summary", breakable(make("span", "name"), node[0]), node[1], node[2]));
  const fill = () => {
    if (details.open && details.childElementCount === 1) details.append(treeList(node[3], level + 1, openLevels));
  };
  details.addEventListener("toggle", fill);
  if (level < openLevels) {
    details.open = true;
    fill();
  }
  item.append(details);
  return item;
}

function treeList(children, level, openLevels) {
  const list = make("ul");
  let next = 0;
  const more = make("button");
  more.type = "button";
  const extend = () => {
    more.remove();
    const end = Math.min(children.length, next + MOST_CHILDREN);
    for (; next < end; next += 1) list.append(treeItem(children[next], level, openLevels));
    if (next === children.length) return;
    more.textContent = grouped.format(children.length - next) + " more";
    list.append(more);
  };
  more.addEventListener("click", extend);
  extend();
  return list;
}

// As many levels are open as take few rows.
function levelsThatFit() {
  let nodes = data.tree;
  let rows = nodes.length;
  let level = 0;
  while (nodes.length) {
    nodes = nodes.flatMap((node) => (node.length === 4 ? node[3] : []));
    rows += nodes.length;
    if (rows > ROWS_AT_FIRST) break;
    level += 1;
  }
  return level;
}

document.getElementById("tree").append(treeList(data.tree, 0, levelsThatFit()));
