// Package llm reaches models behind OpenAI-compatible endpoints. So far it embeds text for the
// runbook index; nothing of the product needs it.
//
// It sends what it is given to the configured base URL and nowhere else: no environment variable
// redirects it and redirects are not followed. Every call has a deadline and a bound on its reply.
package llm
