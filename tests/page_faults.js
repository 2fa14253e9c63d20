// What is wrong with the layout of the page that is shown: a list of sentences, empty where nothing is.
(() => {
  const faults = [];
  const width = document.documentElement.clientWidth;
  const shown = (element) => element.getClientRects().length > 0;
  const over = (a, b) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1.5 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1.5;
  if (document.documentElement.scrollWidth > width) faults.push(`the page is ${document.documentElement.scrollWidth} px wide`);
  for (const box of document.querySelectorAll(".scroll")) {
    const hint = box.previousElementSibling;
    const said = hint && hint.classList.contains("more") && !hint.hidden && hint.textContent;
    if (shown(box) && box.scrollWidth > box.clientWidth + 1 && !said) faults.push("cut without a hint: " + box.getAttribute("aria-label"));
  }
  for (const svg of document.querySelectorAll("main svg")) {
    if (!shown(svg)) continue;
    const frame = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width ? frame.width / svg.viewBox.baseVal.width : 1;
    for (const text of svg.querySelectorAll("text")) {
      const box = text.getBoundingClientRect();
      const size = parseFloat(getComputedStyle(text).fontSize) * scale;
      const name = `${svg.getAttribute("aria-label")}: ${text.textContent}`;
      if (size < 10) faults.push(`letters of ${size.toFixed(1)} px in ${name}`);
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
        faults.push("cut: " + name);
    }
    const boxes = (query) => [...svg.querySelectorAll(query)].map((one) => [one.textContent.trim() || "a mark", one.getBoundingClientRect()]);
    const names = boxes("text.name, text.level-label");
    names.forEach(([name, box], index) => {
      for (const [other, second] of [...names.slice(index + 1), ...boxes(".item .mark")]) if (over(box, second)) faults.push(`${name} lies on ${other}`);
    });
  }
  for (const element of document.querySelectorAll("main *")) {
    if (!shown(element) || element.closest(".scroll, svg")) continue;
    if (element.getBoundingClientRect().right > width + 1) faults.push(`beyond the window: ${element.tagName} ${element.textContent.slice(0, 40)}`);
  }
  // Text whose colour hardly differs from what lies behind it (WCAG asks for 4.5 of small letters).
  const light = (colour) => {
    const [r, g, b, a] = colour.match(/[\d.]+/g).map(Number);
    if (a === 0) return null;
    const part = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const ground = light(getComputedStyle(document.body).backgroundColor);
  for (const element of document.querySelectorAll("main p, main td, main th, main dd, main text, main code")) {
    if (!shown(element)) continue;
    const style = getComputedStyle(element);
    if (element.style.fill) continue; // its ink belongs to a coloured cell
    const ink = light(element.tagName === "text" ? style.fill : style.color);
    const contrast = (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
    if (contrast < 4.5) faults.push(`pale (${contrast.toFixed(1)}): ${element.textContent.trim().slice(0, 30)}`);
  }
  return [...new Set(faults)];
})();
