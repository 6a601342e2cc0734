// Tables that sort by a click on a column's head, or by Enter or Space on it. Figures sort by data-order; rows without
// one stay last in either direction. Rows that are equal keep their order.
"use strict";

(() => {
  const order = (row, index, numeric) => {
    const cell = row.cells[index];
    if (!numeric) return cell.textContent.trim().toLowerCase();
    const value = cell.dataset.order;
    return value === undefined ? NaN : value === "inf" ? Infinity : value === "-inf" ? -Infinity : Number(value);
  };

  const compare = (a, b, numeric) => {
    if (!numeric) return a.localeCompare(b, "en", { numeric: true });
    if (Number.isNaN(a) || Number.isNaN(b)) return 0;
    return a < b ? -1 : a > b ? 1 : 0;
  };

  const sort = (table, head) => {
    const index = head.cellIndex;
    const numeric = head.classList.contains("number");
    const ascending = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows].map((row) => [order(row, index, numeric), row]);
    const missing = (key) => numeric && Number.isNaN(key);
    const known = rows.filter(([key]) => !missing(key));
    known.sort(([a], [b]) => (ascending ? 1 : -1) * compare(a, b, numeric));
    const sorted = [...known, ...rows.filter(([key]) => missing(key))];
    table.tBodies[0].append(...sorted.map(([, row]) => row));
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    for (const head of table.tHead.rows[0].cells) {
      head.querySelector("button").addEventListener("click", () => sort(table, head));
    }
  }
})();
