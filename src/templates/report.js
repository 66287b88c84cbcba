"use strict";

// A click on a column's title sorts its table; cells without a key stay last, either way.
for (const table of document.querySelectorAll("table")) {
  const titles = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const body = table.tBodies[0];
  titles.forEach((title, column) => {
    const button = title.querySelector("button");
    button.addEventListener("click", () => {
      const before = title.getAttribute("aria-sort");
      const opposite = { ascending: "descending", descending: "ascending" };
      const order = opposite[before] ?? title.dataset.first;
      const sign = order === "ascending" ? 1 : -1;
      const rows = [...body.rows].map((row) => ({ row, key: row.cells[column].dataset.key }));
      rows.sort((a, b) => {
        if (a.key === undefined || b.key === undefined) {
          return (a.key === undefined) - (b.key === undefined);
        }
        const difference = Number(a.key) - Number(b.key);
        return sign * (Number.isNaN(difference) ? a.key.localeCompare(b.key, "en", { numeric: true }) : difference);
      });
      body.append(...rows.map(({ row }) => row));
      for (const other of titles) other.setAttribute("aria-sort", other === title ? order : "none");
    });
  });
}

// Paper has no folds: what is closed on the screen is printed too.
const closed = new Set();
window.addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not([open])")) {
    details.open = true;
    closed.add(details);
  }
});
window.addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
  closed.clear();
});
