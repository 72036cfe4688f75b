"use strict";
// Sorting: a click on a heading sorts by it, a second click turns the order round. Cells without a number stay last.
const numberOf = (cell) => {
  const text = cell.dataset.value ?? cell.dataset.sort;
  if (text === undefined || text === "") return null;
  return Number(text.replace(/^(-?)inf$/, "$1Infinity"));
};
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const numeric = head.classList.contains("num");
      const key = (row) => {
        const cell = row.cells[column];
        if (!cell || cell.colSpan > 1) return null;
        return numeric ? numberOf(cell) : cell.textContent.trim() || null;
      };
      const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
      rows.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        if (a === b) return 0; // Infinity - Infinity is no number
        return sign * (numeric ? a - b : a.localeCompare(b));
      });
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  });
}
// Filtering: a row is shown if its name holds what was typed, and one of its values is ticked in each group of boxes.
for (const form of document.querySelectorAll("form.filters")) {
  const table = document.querySelector(`table[data-table="${form.dataset.for}"]`);
  const rows = [...table.tBodies[0].rows];
  const find = form.querySelector("input[type=search]");
  const groups = [...form.querySelectorAll("fieldset")].map((group) => [
    group.dataset.filter,
    [...group.querySelectorAll("input")],
  ]);
  const said = form.querySelector("output");
  const apply = () => {
    const wanted = find.value.trim().toLowerCase();
    const ticked = groups.map(([name, boxes]) => [name, boxes.filter((box) => box.checked).map((box) => box.value)]);
    let shown = 0;
    for (const row of rows) {
      row.hidden =
        !row.cells[0].dataset.value.toLowerCase().includes(wanted) ||
        ticked.some(([name, values]) => !row.getAttribute(`data-${name}`).split(" ").some((v) => values.includes(v)));
      shown += !row.hidden;
    }
    said.textContent =
      shown === rows.length ? "" : said.dataset.text.replace("{shown}", shown).replace("{all}", rows.length);
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  apply(); // a browser may have kept what was typed before a reload
}
// A link to something that is folded away opens it and all it stands in. (What is open is what gets printed.)
const open = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  target.scrollIntoView();
};
addEventListener("hashchange", open);
open();
