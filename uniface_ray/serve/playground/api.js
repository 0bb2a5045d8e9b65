// The API of this very server, asked with fetch. Nothing comes from elsewhere.

const field = document.querySelector("#key");

export function headers() {
  const key = field.value.trim();
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function errorOf(response) {
  let message = `the server answers ${response.status}`;
  try { message = (await response.json()).error.message; } catch { /* no JSON: the status must do */ }
  if (response.status === 401) field.focus();
  const wait = response.headers.get("Retry-After");
  return new Error(wait ? `${message} (in ${wait} s)` : message);
}

// The events of a stream, each as an object.
export async function* events(path, body, signal) {
  const json = !(body instanceof FormData);
  const response = await fetch(path, {
    method: "POST",
    headers: json ? { ...headers(), "Content-Type": "application/json" } : headers(),
    body: json ? JSON.stringify(body) : body,
    signal,
  });
  if (!response.ok) throw await errorOf(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
      if (!data || data === "[DONE]") continue;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}
