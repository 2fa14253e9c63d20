// Details of a chart's item in a box beside the pointer, on hover, focus or touch; and tables that sort by a column.
(() => {
  const tip = document.getElementById("tip");
  const place = (x, y) => {
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = Math.max(8, Math.min(x + 14, room)) + window.scrollX + "px";
    const below = y + 16 + tip.offsetHeight < window.innerHeight;
    tip.style.top = (below ? y + 16 : y - tip.offsetHeight - 10) + window.scrollY + "px";
  };
  const show = (item, x, y) => {
    tip.textContent = item.dataset.tip;
    tip.hidden = false;
    place(x, y);
  };
  const hide = () => { tip.hidden = true; };
  for (const item of document.querySelectorAll("[data-tip]")) {
    item.addEventListener("pointermove", (event) => show(item, event.clientX, event.clientY));
    item.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
    item.addEventListener("focus", () => {
      const box = item.getBoundingClientRect();
      show(item, box.x + box.width / 2, box.y + box.height / 2);
    });
    item.addEventListener("blur", hide);
  }
  document.addEventListener("pointerdown", (event) => { if (!event.target.closest("[data-tip]")) hide(); });

  const value = (row, column) => {
    const order = row.cells[column].dataset.order;
    return order !== "" && !Number.isNaN(Number(order)) ? Number(order) : order;
  };
  const compare = (a, b) => (typeof a === typeof b ? (a > b) - (a < b) : typeof a === "number" ? -1 : 1);
  const sort = (table, header, column) => {
    const turn = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of table.tHead.rows[table.tHead.rows.length - 1].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", turn === 1 ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => turn * compare(value(a, column), value(b, column)));
    table.tBodies[0].append(...rows);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[table.tHead.rows.length - 1].cells].forEach((header, column) => {
      header.tabIndex = 0;
      header.addEventListener("click", () => sort(table, header, column));
      header.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(table, header, column); });
    });
  }
})();
