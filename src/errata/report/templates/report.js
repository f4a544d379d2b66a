"use strict";
const PAGE = 20, CHAINS = 12;
const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const form = find("filters");
const column = Object.fromEntries(data.columns.map((name, place) => [name, place]));
const words = [];  // what a search looks through, by row, made when it is first needed
const CHANGED = "changed";
let shown = [];
let page = 0;
let chains = 0;

function element(tag, options, ...children) {
  const made = document.createElement(tag);
  Object.assign(made, options || {});
  made.append(...children);
  return made;
}

const number = (value) => value.toLocaleString("en");
const cell = (row, name) => name === "id" ? row[column.id] : data.texts[row[column[name]]];
const changed = (row) => ["gained", "lost"].includes(cell(row, "verdict"));

function searched(place) {
  if (words[place] === undefined) {
    const row = data.rows[place];
    const parts = ["id", "question", "gold", "before", "after"].map((name) => cell(row, name));
    words[place] = parts.join("\n").toLowerCase();
  }
  return words[place];
}

function filter() {
  const chosen = Object.fromEntries(new FormData(form));
  const wanted = chosen.search.trim().toLowerCase();
  shown = [];
  data.rows.forEach((row, place) => {
    const fits = ["run", "dataset", "skill"].every((name) => !chosen[name] || cell(row, name) === chosen[name].slice(1)) &&
      (!chosen.verdict || (chosen.verdict === CHANGED ? changed(row) : cell(row, "verdict") === chosen.verdict.slice(1))) &&
      (!chosen.kind || cell(row, "kind_before") === chosen.kind.slice(1) || cell(row, "kind_after") === chosen.kind.slice(1)) &&
      (!wanted || searched(place).includes(wanted));
    if (fits) shown.push(row);
  });
  page = 0;
  render();
}

function block(label, content) {
  return element("div", {}, element("div", {className: "label", textContent: label}),
    element("div", {className: "text", dir: "auto", textContent: content}));
}

function card(row) {
  const verdict = cell(row, "verdict"), single = !verdict.includes("both") && !changed(row);
  const about = ["run", "dataset", "skill"].filter((name) => cell(row, name) && values(name).length > 1)
    .map((name) => cell(row, name)).join(", ");
  const told = (side) => side + (cell(row, "kind_" + side) ? " (" + cell(row, "kind_" + side) + ")" : "");
  const answers = single ? [block("answer" + told("after").slice(5), cell(row, "after"))] :
    [block(told("before"), cell(row, "before")), block(told("after"), cell(row, "after"))];
  return element("article", {className: changed(row) ? verdict : ""},
    element("div", {className: "head"}, element("span", {className: "badge", textContent: verdict}),
      element("code", {textContent: row[column.id]}), element("span", {className: "about", textContent: about})),
    element("div", {className: "pair"}, block("question", cell(row, "question")), block("right answer", cell(row, "gold")),
      ...answers));
}

function render() {
  const first = page * PAGE;
  find("rows").replaceChildren(...shown.slice(first, first + PAGE).map(card));
  find("count").textContent = number(shown.length) + " of " + number(data.rows.length) + " answers";
  find("page").textContent = shown.length ? number(first + 1) + " to " + number(Math.min(first + PAGE, shown.length)) : "none";
  find("earlier").disabled = page === 0;
  find("later").disabled = first + PAGE >= shown.length;
}

function turn(pages) {
  page += pages;
  render();
  form.scrollIntoView({block: "start"});
}

const known = new Map();
function values(name) {
  if (!known.has(name)) {
    const names = name === "kind" ? ["kind_before", "kind_after"] : [name];
    const counts = new Map();
    for (const row of data.rows) {
      for (const value of new Set(names.map((each) => cell(row, each)))) {
        if (value) counts.set(value, (counts.get(value) || 0) + 1);
      }
    }
    known.set(name, [...counts].sort((one, other) => one[0].localeCompare(other[0])));
  }
  return known.get(name);
}

function options() {
  for (const name of ["verdict", "run", "dataset", "skill", "kind"]) {
    const held = values(name), box = form.elements[name];
    box.append(element("option", {value: "", textContent: "all"}));
    const moved = data.rows.filter(changed).length;
    if (name === "verdict" && moved) box.append(element("option", {value: CHANGED, textContent: "gained or lost (" + number(moved) + ")"}));
    for (const [value, count] of held) {
      box.append(element("option", {value: "=" + value, textContent: value + " (" + number(count) + ")"}));
    }
    find("of-" + name).hidden = held.length < 2;
  }
}

function chain(each) {
  const made = element("details", {className: "chain"}, element("summary", {}, element("code", {textContent: each.id}),
    element("span", {className: "about", textContent: " iteration " + each.iteration + ", " + each.run})));
  made.addEventListener("toggle", () => {
    if (made.children.length > 1) return;
    made.append(element("ol", {}, ...each.steps.map(([title, content]) => element("li", {}, block(title, content)))));
  });
  return made;
}

function more() {
  find("chains").append(...data.chains.slice(chains, chains + CHAINS).map(chain));
  chains += CHAINS;
  find("more").hidden = chains >= data.chains.length;
}

if (form) {
  options();
  let waiting = 0;
  form.addEventListener("input", (event) => {
    clearTimeout(waiting);
    if (event.target.name === "search") waiting = setTimeout(filter, 120);
    else filter();
  });
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => { event.preventDefault(); filter(); });
  find("earlier").addEventListener("click", () => turn(-1));
  find("later").addEventListener("click", () => turn(1));
  filter();
}
if (find("chains")) {
  find("more").addEventListener("click", more);
  more();
}
