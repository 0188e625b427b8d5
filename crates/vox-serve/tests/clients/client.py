"""The official Python client against the servers whose addresses are the arguments."""

import asyncio
import sys

import openai

OPEN, KEYED, FULL, KEY = sys.argv[1:]


def client(address, key="none", **more):
    return openai.OpenAI(base_url=f"http://{address}/v1", api_key=key, max_retries=0, **more)


def refused(kind, call):
    try:
        call()
    except kind as error:
        assert type(error) is kind, repr(error)
        return error
    raise AssertionError(f"not refused with {kind.__name__}")


c = client(OPEN)
HI = [{"role": "user", "content": "Hi"}]

# A chat, whole.
chat = c.chat.completions.create(model="words", messages=HI, logprobs=True, top_logprobs=2, seed=1)
assert chat.choices[0].message.content == "Hello, world!", chat
assert chat.choices[0].finish_reason == "stop"
assert chat.choices[0].logprobs.content[0].top_logprobs[1].token == "other1"
assert (chat.usage.total_tokens, chat.usage.prompt_tokens_details.cached_tokens) == (11, 3)
assert chat.system_fingerprint == "fp_script"
assert chat._request_id.startswith("req-")

# A chat, streamed.
stream = c.chat.completions.create(
    model="words", messages=HI, stream=True, stream_options={"include_usage": True}
)
chunks = list(stream)
assert "".join(x.choices[0].delta.content or "" for x in chunks if x.choices) == "Hello, world!"
assert chunks[0].choices[0].delta.role == "assistant"
assert chunks[-2].choices[0].finish_reason == "stop"
assert chunks[-1].usage.completion_tokens == 4

# The client's own helper, which is strict about the order of events.
with c.chat.completions.stream(model="words", messages=HI) as events:
    assert [event.type for event in events if event.type.startswith("content")][-1] == "content.done"
    assert events.get_final_completion().choices[0].message.content == "Hello, world!"

# A stream that the user leaves.
stream = c.chat.completions.create(model="endless", messages=HI, stream=True)
next(iter(stream))
stream.close()

# Completions.
text = c.completions.create(model="words", prompt="Once", max_tokens=2, logprobs=1)
assert (text.choices[0].text, text.choices[0].finish_reason) == ("Hello,", "length")
assert text.choices[0].logprobs.text_offset == [0, 5]
stream = c.completions.create(model="words", prompt=[1, 2], stream=True)
assert "".join(x.choices[0].text for x in stream) == "Hello, world!"

# Embeddings: the client asks for Base64 unless it is told otherwise.
for more in ({}, {"encoding_format": "float"}):
    made = c.embeddings.create(model="org/vectors", input=["a", "bcd"], **more)
    assert [x.embedding for x in made.data] == [[1.0, 0.5, -0.25], [3.0, 0.5, -0.25]], made
assert made.usage.prompt_tokens == 4

# Models.
assert "words" in [model.id for model in c.models.list()]
assert c.models.retrieve("org/vectors").owned_by == "tests"

# Classes of errors.
ask = lambda c=c, **more: c.chat.completions.create(**{"model": "words", "messages": HI, **more})
error = refused(openai.NotFoundError, lambda: ask(model="gpt-9"))
assert (error.code, error.param, error.type) == ("model_not_found", "model", "invalid_request_error")
error = refused(openai.BadRequestError, lambda: ask(n=2))
assert (error.param, error.code) == ("n", "unsupported")
refused(openai.BadRequestError, lambda: ask(max_tokens=10**9))
refused(openai.InternalServerError, lambda: ask(model="fails"))
refused(openai.InternalServerError, lambda: ask(model="busy"))
refused(openai.AuthenticationError, lambda: ask(c=client(KEYED)))
assert ask(c=client(KEYED, KEY)).choices[0].message.content == "Hello, world!"
error = refused(openai.RateLimitError, lambda: ask(c=client(FULL)))
assert int(error.response.headers["retry-after"]) >= 1
big = [{"role": "user", "content": "x" * (8 << 20)}]
assert refused(openai.APIStatusError, lambda: ask(messages=big)).status_code == 413
error = refused(openai.APIError, lambda: list(ask(model="half", stream=True)))
assert error.message == "the weights are gone", error


async def concurrently():
    several = openai.AsyncOpenAI(base_url=f"http://{OPEN}/v1", api_key="none", max_retries=0)
    asked = [several.chat.completions.create(model="words", messages=HI) for _ in range(8)]
    for answer in await asyncio.gather(*asked):
        assert answer.choices[0].message.content == "Hello, world!"


asyncio.run(concurrently())
print(f"openai {openai.__version__} for Python: passed")
