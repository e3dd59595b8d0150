package openai

import (
	"context"
	"fmt"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/runtime/infer"
)

// prepareScores makes the prompt what is given behind its first token. Where the model has BOS, that
// is the first, so that every token of the text has a likelihood.
func (c *completion) prepareScores(ctx context.Context) error {
	q, size := c.request, c.session.Engine.ContextSize()
	if len(q.Gen.Prompt) > size {
		return localapi.BadRequest("prompt", "context_length_exceeded", fmt.Sprintf("the text has at least %d tokens, and the context %d", len(q.Gen.Prompt), size))
	}
	if len(q.Gen.Prompt) < 2 {
		return localapi.BadRequest("prompt", "text-too-short", "the text has no token that another one comes before, so that no likelihood can be told")
	}
	begin, err := c.session.Engine.Tokens(ctx, "", true, false, 1)
	if err != nil {
		return err
	}
	if len(begin) == 0 { // the text's own first token has nothing before it
		q.first = []infer.Scored{{Likelihood: infer.Likelihood{Token: q.Gen.Prompt[0]}}}
	}
	q.Gen.Prompt, q.Gen.Given = q.Gen.Prompt[:1], q.Gen.Prompt[1:]
	q.Gen.MaxTokens = len(q.Gen.Given) // for what the answer costs
	return nil
}

// score has the engine score the text. The answer is the text, of which nothing counts as
// generated.
func (c *completion) score(ctx context.Context, gen infer.Request, a *answer) error {
	a.scored = c.request.first
	a.text.WriteString(c.request.Prompt)
	gen.Observe = func(list []infer.Scored) error { a.scored = append(a.scored, list...); return nil }
	var err error
	a.result, err = c.session.Engine.Generate(ctx, gen, func(string) error { return nil })
	a.result.PromptTokens, a.result.CompletionTokens = a.result.PromptTokens+a.result.CompletionTokens, 0
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	a.result.FinishReason = "length" // as OpenAI's says of no tokens
	return c.ended(a, err)
}
