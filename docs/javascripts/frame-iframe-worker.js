// Pages opened from the disk may start no worker, so the site's search runs in a hidden frame instead.

if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.inner = frame.contentWindow;
      const load = url => new Promise((done, failed) => {
        const script = this.inner.document.createElement("script");
        Object.assign(script, { src: new URL(url, document.baseURI), onload: done, onerror: failed });
        this.inner.document.body.append(script);
      });
      this.inner.postMessage = data => { this.deliver(this, MessageEvent, data); };
      this.inner.importScripts = (...urls) => urls.reduce((before, url) => before.then(() => load(url)), Promise.resolve());
      this.ready = load(address);
    }

    postMessage(data) {
      this.ready.then(() => this.deliver(this.inner, this.inner.MessageEvent, data));
    }

    deliver(target, Message, data) {
      setTimeout(() => target.dispatchEvent(new Message("message", { data })));
    }
  };
}
