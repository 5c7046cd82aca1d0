// What the theme's pages lack for readers who do not see them, and cannot be said in CSS.
const bookScript = document.currentScript.src;
document.addEventListener("DOMContentLoaded", () => {
  // a figure that can be tried brings the script that offers it
  if (document.querySelector(".emlib-lab")) {
    const script = document.createElement("script");
    script.src = new URL("lab/start.js", bookScript).href;
    document.head.append(script);
  }
  // a name that differs from what is written can't be spoken to, nor be found; the writing is the better name
  document.querySelectorAll("summary[aria-label], .search-button-field[aria-label]").forEach((control) => {
    control.removeAttribute("aria-label");
  });
  // Sphinx calls the references a list, but not its entries list items
  document.querySelectorAll(".citation-list").forEach((list) => {
    list.removeAttribute("role");
  });
  // a wide table moves sideways in its own box, by keys too
  document.querySelectorAll(".pst-scrollable-table-container").forEach((box) => {
    box.setAttribute("tabindex", "0");
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", "a wide table");
  });
  // and so do printed lines and equations
  const boxes = ".cell_output pre, div.math mjx-container, .emlib-picture, .emlib-table > div";
  const reach = () => {
    document.querySelectorAll(".cell_output pre, div.math mjx-container").forEach((box) => {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
    });
  };
  reach();
  window.addEventListener("load", () => window.MathJax?.startup?.promise?.then(reach));
  window.addEventListener("resize", reach);
  // the edges beyond which there is more fade; in most browsers book.css alone sees to it
  if (!CSS.supports("animation-timeline: scroll(self inline)")) {
    const fade = (box) => {
      const left = box.scrollLeft, right = box.scrollWidth - box.clientWidth - left;
      box.style.setProperty("--book-more-left", left > 1 ? "2.5rem" : "0px");
      box.style.setProperty("--book-more-right", right > 1 ? "2.5rem" : "0px");
    };
    document.querySelectorAll(`${boxes}, .pst-scrollable-table-container`).forEach((box) => {
      box.addEventListener("scroll", () => fade(box), { passive: true });
      new ResizeObserver(() => fade(box)).observe(box);
    });
  }
});
