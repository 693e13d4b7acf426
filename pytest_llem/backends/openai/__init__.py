"""The `openai` backend: a server with OpenAI's completions API, measured from outside."""
