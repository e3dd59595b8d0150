package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// agentStatus is what the demo reads of `anchorhold status --json`.
type agentStatus struct {
	Agent struct {
		State string `json:"state"`
		Lease *struct {
			ID             string  `json:"id"`
			Policy         string  `json:"policy"`
			Remaining      float64 `json:"remaining_seconds"`
			TTL            float64 `json:"ttl_seconds"`
			TLSGroup       string  `json:"tls_group"`
			Epoch          uint64  `json:"epoch"`
			EvidenceKind   string  `json:"evidence_kind"`
			EvidenceDigest string  `json:"evidence_digest"`
			AuditIndex     uint64  `json:"audit_index"`
			AuditLeaf      string  `json:"audit_leaf"`
		} `json:"lease"`
		Model *struct {
			ID         string `json:"id"`
			Mode       string `json:"mode"`
			Context    int    `json:"context"`
			Threads    int    `json:"threads"`
			ArenaBytes int64  `json:"arena_bytes"`
		} `json:"model"`
	} `json:"agent"`
}

func (d *demo) status(ctx context.Context, agent string) (agentStatus, error) {
	var s agentStatus
	out, err := d.tool(ctx, "status", "--json", "--agent", d.path(agent+".sock"), "--broker", d.path("no-broker.sock"))
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(out, &s)
}

func (d *demo) startAgent(ctx context.Context) (string, error) {
	var err error
	if d.agent, err = d.runAgent("agent", d.path("model.ahm"), goodMeasurement, d.memoryMB); err != nil {
		return "", err
	}
	var s agentStatus
	err = d.agent.waitFor(ctx, "served model", 2*time.Minute, func() bool {
		s, err = d.status(ctx, "agent")
		return err == nil && s.Agent.State == "serving"
	})
	if err != nil {
		return "", err
	}
	m := s.Agent.Model
	if d.opt.model == "" && m.Threads <= 4 && m.Mode != "resident" { // each thread has memory of its own
		return "", fmt.Errorf("the demo's model is %s in %d MiB: it no longer fits there", m.Mode, d.memoryMB)
	}
	d.served = fmt.Sprintf("model %s, context %d tokens", placed(m.Mode, d.agent.log), m.Context)
	return fmt.Sprintf("%s, %d threads: %.0f MiB of a limit of %d MiB", d.served, m.Threads, float64(m.ArenaBytes)/(1<<20), d.memoryMB), nil
}

// placed is where a model's weights are: all in memory, or only as many as the log of its agent says.
func placed(mode string, log *logFile) string {
	if mode != "streamed" {
		return mode
	}
	_, kept, ok := strings.Cut(log.line("model opened"), " kept_mib=")
	if kept, _, _ = strings.Cut(kept, " "); !ok || kept == "0" {
		return mode
	}
	return fmt.Sprintf("mixed (%s MiB of its weights kept in memory, the rest streamed)", kept)
}

func (d *demo) showEvidence(ctx context.Context) (string, error) {
	kind, err := kindOf(d.opt.kind)
	if err != nil {
		return "", err
	}
	s, err := d.status(ctx, "agent")
	if err != nil {
		return "", err
	}
	l := s.Agent.Lease
	if l == nil {
		return "", fmt.Errorf("the agent shows no lease")
	}
	if !strings.Contains(l.TLSGroup, "MLKEM768") {
		return "", fmt.Errorf("the connection's key exchange was %s", l.TLSGroup)
	}
	record, err := d.auditRecord(ctx, l.AuditIndex)
	if err != nil {
		return "", err
	}
	if record.Record.Measurement != d.measured[kind.recorded] {
		return "", fmt.Errorf("the audit record names measurement %q", record.Record.Measurement)
	}
	return fmt.Sprintf(`evidence     %s, digest %.16s...
claims       %s %.16s..., image demo-image
TLS group    %s
lease        %.16s... of %.0f s by policy %q, epoch %d; %.0f s left
audit record #%d %s %s, durable before the key left`, l.EvidenceKind, l.EvidenceDigest, kind.register, d.measured[kind.register], l.TLSGroup,
		l.ID, l.TTL, l.Policy, l.Epoch, l.Remaining, l.AuditIndex, record.Record.Kind, record.Record.Decision), nil
}

// auditEntry is what the demo reads of an audit record.
type auditEntry struct {
	Index  uint64 `json:"index"`
	Record struct {
		Kind        string `json:"kind"`
		Decision    string `json:"decision"`
		Measurement string `json:"measurement"`
		RefusalID   string `json:"refusal_id"`
		Reasons     []struct {
			Code   string `json:"code"`
			Detail string `json:"detail"`
		} `json:"reasons"`
	} `json:"record"`
}

func (d *demo) auditEntries(ctx context.Context) ([]auditEntry, error) {
	out, err := d.tool(ctx, "audit", "show", "--last", "0", "--json", "--broker", d.path("operator.sock"))
	if err != nil {
		return nil, err
	}
	var list struct {
		Records []auditEntry `json:"records"`
	}
	err = json.Unmarshal(out, &list)
	return list.Records, err
}

func (d *demo) auditRecord(ctx context.Context, index uint64) (auditEntry, error) {
	list, err := d.auditEntries(ctx)
	if err != nil {
		return auditEntry{}, err
	}
	for _, e := range list {
		if e.Index == index {
			return e, nil
		}
	}
	return auditEntry{}, fmt.Errorf("the audit log has no record %d", index)
}

func (d *demo) chat(ctx context.Context) (string, error) {
	var answer strings.Builder
	var figures string
	d.receipt = d.path("answer.receipt.json")
	embeds, err := d.embeds()
	if err != nil {
		return "", err
	}
	switch {
	case embeds:
		fmt.Printf("    the model answers nothing; it embeds: %s", d.opt.question)
		figures, err = d.embed(ctx, &answer)
	case d.base():
		figures, err = d.goOn(ctx, "agent", &answer, d.receipt)
		fmt.Printf("    text: %s\n    goes on: %s", continued, answer.String())
	default:
		fmt.Printf("    question: %s\n    answer:   ", d.opt.question)
		figures, err = d.say(ctx, &answer)
	}
	if err != nil {
		return "", err
	}
	fmt.Println()
	if strings.TrimSpace(answer.String()) == "" {
		return "", fmt.Errorf("the answer is empty")
	}
	d.answer = answer.String()
	peak, err := d.agent.peakMemory()
	if err != nil {
		return "", err
	}
	if peak > int64(d.memoryMB)<<20 {
		return "", fmt.Errorf("the agent's memory reached %.1f MiB, above its limit of %d MiB", float64(peak)/(1<<20), d.memoryMB)
	}
	told, err := d.agent.group.told()
	return fmt.Sprintf("%s\npeak memory of the agent, measured from outside: %.1f MiB of its limit of %d MiB; %s\n%s", figures, float64(peak)/(1<<20), d.memoryMB, d.served, told), err
}

// say chats, and shows the answer while it comes.
func (d *demo) say(ctx context.Context, answer *strings.Builder) (figures string, err error) {
	return stream(ctx, &both{answer}, filepath.Join(d.opt.bin, "anchorhold"), "chat", "--agent", d.path("agent.sock"), "--max-tokens", "96", "--receipt", d.receipt, d.opt.question)
}

// continued is a text for models without a chat template.
const continued = "The capital of France is"

// base says whether the model has no chat template.
func (d *demo) base() bool {
	m := modelNamed(d.opt.model)
	return m != nil && m.base
}

// goOn has a model without a chat template continue a text, by `anchorhold score`: its receipt is
// in the record, and is written to a file if one is named.
func (d *demo) goOn(ctx context.Context, agent string, answer *strings.Builder, receipt string) (figures string, err error) {
	line, err := json.Marshal(map[string]any{"prompt": continued, "max_tokens": 32})
	if err != nil {
		return "", err
	}
	in, out := d.path(agent+".prompts.jsonl"), d.path(agent+".records.jsonl")
	if err := os.WriteFile(in, append(line, '\n'), 0o600); err != nil {
		return "", err
	}
	told, err := d.tool(ctx, "score", in, "--out", out, "--receipts", "--agent", d.path(agent+".sock"))
	if err != nil {
		return "", err
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		return "", err
	}
	_, last, _ := strings.Cut(strings.TrimSpace(string(raw)), "\n")
	var record struct {
		Choices []struct{ Text string }
		Issued  json.RawMessage `json:"issued_receipt"`
	}
	if err := json.Unmarshal([]byte(last), &record); err != nil || len(record.Choices) != 1 {
		return "", fmt.Errorf("the record is %s: %w", last, err)
	}
	answer.WriteString(record.Choices[0].Text)
	if receipt != "" {
		err = os.WriteFile(receipt, record.Issued, 0o600)
	}
	_, figures, _ = strings.Cut(string(told), "\n")
	figures, _, _ = strings.Cut(figures, "\n")
	return figures, err
}

// chatStreamed asks the same question of an agent whose limit is half the
// model's size, and expects the same answer.
func (d *demo) chatStreamed(ctx context.Context) (note string, err error) {
	if embeds, err := d.embeds(); err != nil || embeds {
		return "left out: it compares answers, and an embedding model gives none", err
	}
	agent, err := d.runAgent("streamed", d.path("model.ahm"), goodMeasurement, d.streamedMB)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, agent.stop()) }()
	var s agentStatus
	err = agent.waitFor(ctx, "served model", 2*time.Minute, func() bool {
		s, err = d.status(ctx, "streamed")
		return err == nil && s.Agent.State == "serving"
	})
	if err != nil {
		return "", err
	}
	if s.Agent.Model.Mode != "streamed" {
		return "", fmt.Errorf("the model is %s under %d MiB", s.Agent.Model.Mode, d.streamedMB)
	}
	answer, figures, err := d.askStreamed(ctx)
	if err != nil {
		return "", err
	}
	if answer != d.answer {
		return "", fmt.Errorf("the streamed answer is %q, the one before %q", answer, d.answer)
	}
	peak, err := agent.peakMemory()
	if err != nil {
		return "", err
	}
	if peak > int64(d.streamedMB)<<20 {
		return "", fmt.Errorf("the agent's memory reached %.1f MiB, above its limit of %d MiB", float64(peak)/(1<<20), d.streamedMB)
	}
	told, err := agent.group.told()
	return fmt.Sprintf("the same answer, letter for letter, %s; peak memory %.1f MiB of its limit of %d MiB; model %s, context %d tokens\n%s",
		figures, float64(peak)/(1<<20), d.streamedMB, placed(s.Agent.Model.Mode, agent.log), s.Agent.Model.Context, told), err
}

// askStreamed asks the second agent what the first one was asked.
func (d *demo) askStreamed(ctx context.Context) (answer, figures string, err error) {
	if d.base() {
		var b strings.Builder
		figures, err = d.goOn(ctx, "streamed", &b, "")
		return b.String(), figures, err
	}
	out, err := d.tool(ctx, "chat", "--agent", d.path("streamed.sock"), "--max-tokens", "96", "--json", d.opt.question)
	if err != nil {
		return "", "", err
	}
	var a struct {
		Answer          string  `json:"answer"`
		FirstTokenMS    float64 `json:"first_token_ms"`
		TokensPerSecond float64 `json:"tokens_per_second"`
	}
	err = json.Unmarshal(out, &a)
	return a.Answer, fmt.Sprintf("first token after %.0f ms, then %.1f tokens/s", a.FirstTokenMS, a.TokensPerSecond), err
}

// both shows what it keeps.
type both struct{ kept *strings.Builder }

func (b *both) Write(p []byte) (int, error) {
	b.kept.Write(p)
	return os.Stdout.Write(p)
}

func (d *demo) verifyReceipt(ctx context.Context) (string, error) {
	kind, err := kindOf(d.opt.kind)
	if err != nil {
		return "", err
	}
	output := d.path("answer.txt")
	if err := os.WriteFile(output, []byte(d.answer), 0o600); err != nil {
		return "", err
	}
	out, err := d.tool(ctx, "receipt", "verify", d.receipt, "--root", d.path("root.key.pub"), "--accept-software-tee", "--output", output, "--model-id", d.modelID, "--measurement", kind.register+"="+d.measured[kind.register])
	if err != nil {
		return "", err
	}
	if _, err := d.tool(ctx, "receipt", "verify", d.receipt, "--root", d.path("root.key.pub"), "--accept-software-tee", "--measurement", kind.register+"="+otherMeasurement); err == nil {
		return "", errors.New("the receipt verified for a different measurement")
	}
	if err := os.WriteFile(output, []byte(d.answer+" "), 0o600); err != nil {
		return "", err
	}
	if _, err := d.tool(ctx, "receipt", "verify", d.receipt, "--root", d.path("root.key.pub"), "--accept-software-tee", "--output", output); err == nil {
		return "", fmt.Errorf("the receipt verified for a different answer")
	}
	return strings.TrimSpace(string(out)) + "\nthe same receipt for another measurement, or with one character added to the answer: refused", nil
}

func (d *demo) verifyAudit(ctx context.Context) (string, error) {
	out, err := d.tool(ctx, "audit", "verify", "--broker", d.path("operator.sock"), "--accept-own-checkpoints")
	return strings.TrimSpace(string(out)), err
}
