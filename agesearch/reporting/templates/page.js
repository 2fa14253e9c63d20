// Details of a chart's item in a box beside it, on hover, tap, or focus (arrow keys go on to its neighbours); tables that
// sort by a column; a word beside what is wider than its place.
(() => {
  const tip = document.getElementById("tip");
  let shown = null;
  const place = (x, y) => {
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = Math.max(8, Math.min(x + 14, room)) + window.scrollX + "px";
    const below = y + 16 + tip.offsetHeight < window.innerHeight;
    tip.style.top = Math.max(4, below ? y + 16 : y - tip.offsetHeight - 10) + window.scrollY + "px";
  };
  const hide = () => {
    if (shown) shown.classList.remove("on");
    shown = null;
    tip.hidden = true;
  };
  const show = (item, x, y) => {
    if (shown !== item) hide();
    shown = item;
    item.classList.add("on");
    tip.textContent = item.dataset.tip;
    tip.hidden = false;
    place(x, y);
  };
  const middle = (item) => {
    const box = item.getBoundingClientRect();
    show(item, box.x + box.width / 2, box.y + box.height / 2);
  };
  for (const svg of document.querySelectorAll("svg")) {
    const items = [...svg.querySelectorAll("[data-tip]")];
    items.forEach((item, index) => {
      item.setAttribute("tabindex", index === 0 ? "0" : "-1");
      item.setAttribute("role", "img");
      item.setAttribute("aria-label", item.dataset.tip);
      item.addEventListener("pointermove", (event) => { if (event.pointerType !== "touch") show(item, event.clientX, event.clientY); });
      item.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
      item.addEventListener("click", (event) => show(item, event.clientX, event.clientY));
      item.addEventListener("focus", () => middle(item));
      item.addEventListener("blur", hide);
      item.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (event.key === "Escape") hide();
        if (!step) return;
        event.preventDefault();
        const next = items[(index + step + items.length) % items.length];
        item.setAttribute("tabindex", "-1");
        next.setAttribute("tabindex", "0");
        next.focus();
      });
    });
  }
  // A finger is wider than a mark: a tap beside one means it.
  const REACH = 22;
  const nearest = (svg, x, y) => {
    let found = null, least = REACH;
    for (const mark of svg ? svg.querySelectorAll("[data-tip] .mark") : []) {
      const box = mark.getBoundingClientRect();
      const far = Math.hypot(box.x + box.width / 2 - x, box.y + box.height / 2 - y);
      if (far < least) [found, least] = [mark.closest("[data-tip]"), far];
    }
    return found;
  };
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-tip]")) return;
    const item = nearest(event.target.closest("svg"), event.clientX, event.clientY);
    if (item) show(item, event.clientX, event.clientY); else hide();
  });

  const hints = new Map();
  const look = (box) => {
    const more = box.scrollWidth > box.clientWidth + 1;
    if (more && !hints.has(box)) {
      const hint = document.createElement("span");
      hint.className = "more";
      box.before(hint);
      hints.set(box, hint);
    }
    const hint = hints.get(box);
    if (!hint) return;
    const end = box.scrollLeft + box.clientWidth >= box.scrollWidth - 1;
    hint.textContent = more ? (end ? "\u2190 scroll back" : "scroll for more \u2192") : "";
    hint.hidden = !more;
  };
  for (const box of document.querySelectorAll(".scroll")) {
    box.addEventListener("scroll", () => look(box), { passive: true });
    new ResizeObserver(() => look(box)).observe(box);
    look(box);
  }

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
