// A square picture that is painted on, and the mask that comes of it.

const SIDE = 512;              // in pixels, as it is sent

export function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  return canvas;
}
export const fileOf = (canvas, type = "image/png") => new Promise((done) => canvas.toBlob(done, type, 0.92));

export const painter = {
  canvas: document.querySelector("#paint"),
  picture: canvasOf(SIDE, SIDE),
  mask: canvasOf(SIDE, SIDE),  // painted where it is not transparent
  last: null,
  begin(image) {
    const side = Math.min(image.width, image.height);  // the model sees the middle
    const [x, y] = [(image.width - side) / 2, (image.height - side) / 2];
    this.picture.getContext("2d").drawImage(image, x, y, side, side, 0, 0, SIDE, SIDE);
    this.canvas.hidden = false;
    this.clear();
  },
  clear() {
    this.mask.getContext("2d").clearRect(0, 0, SIDE, SIDE);
    this.show();
  },
  show() {
    const context = this.canvas.getContext("2d");
    context.drawImage(this.picture, 0, 0);
    context.globalAlpha = 0.55;
    context.drawImage(this.mask, 0, 0);
    context.globalAlpha = 1;
  },
  ink() {
    const context = this.mask.getContext("2d");
    const colour = getComputedStyle(document.documentElement).getPropertyValue("--paint");
    Object.assign(context, { fillStyle: colour, strokeStyle: colour, lineCap: "round", lineWidth: Number(document.querySelector("#brush").value) });
    return context;
  },
  stroke(event) {
    const area = this.canvas.getBoundingClientRect();
    const scale = SIDE / area.width;
    const here = [(event.clientX - area.left) * scale, (event.clientY - area.top) * scale];
    const context = this.ink();
    context.beginPath();
    context.moveTo(...(this.last ?? here));
    context.lineTo(...here);
    context.stroke();
    this.last = here;
    this.show();
  },
  box(left, top, right, bottom) {
    const [x, y, width, height] = [left, top, right - left, bottom - top].map((part) => (part * SIDE) / 100);
    this.ink().fillRect(x, y, width, height);
    this.show();
  },
  // White where to draw, on black; null where nothing is painted.
  async file() {
    const pixels = this.mask.getContext("2d").getImageData(0, 0, SIDE, SIDE);
    let any = false;
    for (let at = 0; at < pixels.data.length; at += 4) {
      const painted = pixels.data[at + 3] > 127;
      any ||= painted;
      pixels.data.fill(painted ? 255 : 0, at, at + 3);
      pixels.data[at + 3] = 255;
    }
    const canvas = canvasOf(SIDE, SIDE);
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return any ? fileOf(canvas) : null;
  },
};

painter.canvas.addEventListener("pointerdown", (event) => {
  painter.canvas.setPointerCapture(event.pointerId);
  painter.last = null;
  painter.stroke(event);
});
painter.canvas.addEventListener("pointermove", (event) => { if (event.buttons) painter.stroke(event); });
