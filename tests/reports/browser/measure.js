// What the tests ask a laid-out page. Each function returns descriptions of the elements that are wrong; none: [].
window.measure = (() => {
  const seen = (one) => {
    const box = one.getBoundingClientRect();
    return box.width > 0 && box.height > 0 && one.checkVisibility({ visibilityProperty: true });
  };
  const describe = (one) => {
    const name = one.tagName.toLowerCase() + (one.id ? "#" + one.id : "") + [...one.classList].map((c) => "." + c).join("");
    const section = one.closest("section[id], svg[aria-labelledby]");
    const within = section && section !== one ? ` in ${section.id || section.getAttribute("aria-labelledby")}` : "";
    const box = one.getBoundingClientRect();
    const text = one.textContent.trim().replace(/\s+/g, " ").slice(0, 60);
    return `${name}${within} [x ${box.left.toFixed(0)} to ${box.right.toFixed(0)}] "${text}"`;
  };
  // The nearest ancestor that shows its overflow by scrolling, or hides it.
  const holds = (one) => {
    for (let up = one.parentElement; up && up !== document.body; up = up.parentElement)
      if (up.tagName !== "svg" && getComputedStyle(up).overflowX !== "visible") return up;
    return null;
  };

  // Elements that stick out of the window sideways and are not inside something that scrolls.
  const overflow = (width) =>
    [...document.body.querySelectorAll("*")]
      .filter(seen)
      .filter((one) => {
        const box = one.getBoundingClientRect();
        return (box.right > width + 1 || box.left < -1) && !holds(one);
      })
      .map(describe);

  // Elements whose own text does not fit and is cut off without a way to scroll to it.
  const cut = () =>
    [...document.body.querySelectorAll("*")]
      .filter((one) => seen(one) && getComputedStyle(one).clipPath === "none")
      .filter((one) => {
        const { overflowX, overflowY } = getComputedStyle(one);
        return (
          (["hidden", "clip"].includes(overflowX) && one.scrollWidth > one.clientWidth + 1) ||
          (["hidden", "clip"].includes(overflowY) && one.scrollHeight > one.clientHeight + 1)
        );
      })
      .filter((one) => one.namespaceURI === "http://www.w3.org/1999/xhtml")
      .map(describe);

  // Texts of figures that reach beyond their figure, where they are not painted.
  const labelsCutOff = () =>
    [...document.querySelectorAll("figure svg text, svg[role=img] text")]
      .filter(seen)
      .filter((text) => {
        const frame = text.ownerSVGElement.getBoundingClientRect();
        const box = text.getBoundingClientRect();
        return box.left < frame.left - 1.5 || box.right > frame.right + 1.5 || box.top < frame.top - 3 || box.bottom > frame.bottom + 3;
      })
      .map(describe);

  // Texts of figures whose letters are smaller than this many pixels.
  const smallLabels = (least) =>
    [...document.querySelectorAll("figure svg text, svg[role=img] text")]
      .filter(seen)
      .map((text) => {
        const { a, b } = text.getScreenCTM(); // also of turned text
        return [parseFloat(getComputedStyle(text).fontSize) * Math.hypot(a, b), text];
      })
      .filter(([size]) => size < least)
      .map(([size, text]) => `${size.toFixed(1)} px: ${describe(text)}`);

  // Figures and table rows that are taller than a printed page.
  const tall = (height) =>
    [...document.querySelectorAll("figure, svg[role=img], tr")]
      .filter((one) => seen(one) && one.getBoundingClientRect().height > height)
      .map(describe);

  const parse = (colour) => {
    const [r, g, b, a = 1] = (colour.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
    return [r, g, b, a];
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
  const luminance = (colour) => {
    const [r, g, b] = colour.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  // The colour below an element of a page: that of the nearest opaque ancestor, with what is translucent laid over it.
  const below = (one) => {
    const layers = [];
    for (let up = one; up; up = up.parentElement) {
      const colour = parse(getComputedStyle(up).backgroundColor);
      layers.push(colour);
      if (colour[3] === 1) break;
    }
    const white = matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18, 1] : [255, 255, 255, 1];
    return layers.reverse().reduce((under, layer) => over(layer, under), white);
  };
  // Texts of figures that stand on the page's own colour and are hard to read on it (axe-core leaves figures out).
  // A text inside a filled shape of its own figure is judged against that shape.
  const faintLabels = (least) =>
    [...document.querySelectorAll("figure svg text, svg[role=img] text")]
      .filter(seen)
      .map((text) => {
        const box = text.getBoundingClientRect();
        const [x, y] = [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
        const shapes = [...text.ownerSVGElement.querySelectorAll("path, rect, polygon, circle")];
        const under = shapes.filter((shape) => {
          if (shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_PRECEDING) return false; // painted over it
          if (shape.closest("defs, clipPath, marker, pattern")) return false;
          const style = getComputedStyle(shape);
          if (!style.fill.startsWith("rgb") || parse(style.fill)[3] < 1 || parseFloat(style.fillOpacity) < 1) return false;
          return shape.isPointInFill(new DOMPoint(x, y).matrixTransform(shape.getScreenCTM().inverse()));
        });
        const paper = below(text.closest("figure") || text.ownerSVGElement.parentElement);
        const back = under.length ? parse(getComputedStyle(under.at(-1)).fill) : paper;
        const style = getComputedStyle(text);
        const [r, g, b, a] = parse(style.fill);
        return [contrast(over([r, g, b, a * parseFloat(style.fillOpacity) * parseFloat(style.opacity)], back), back), text];
      })
      .filter(([ratio]) => ratio < least)
      .map(([ratio, text]) => `${ratio.toFixed(2)}: ${describe(text)}`);

  return { overflow, cut, labelsCutOff, smallLabels, tall, faintLabels };
})();
