package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/anchorhold/anchorhold/runtime/gguf"
)

// embeds says whether the model makes vectors of texts and answers nothing.
func (d *demo) embeds() (bool, error) {
	f, err := os.Open(d.gguf)
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	parsed, err := gguf.Parse(f, info.Size())
	if err != nil {
		return false, err
	}
	architecture, _ := parsed.String("general.architecture")
	return architecture == "bert" || architecture == "nomic-bert", nil
}

// embed has the agent make the vector of the question. The answer is the bytes that its receipt
// commits to.
func (d *demo) embed(ctx context.Context, answer *strings.Builder) (figures string, err error) {
	body, err := json.Marshal(map[string]string{"model": "demo", "input": d.opt.question, "encoding_format": "base64"})
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.path("agent.sock"))
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/v1/embeddings", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Anchorhold-Receipt", "full")
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	var got struct {
		Data   []struct{ Embedding string }
		Usage  struct{ Total_tokens int }
		Issued json.RawMessage `json:"issued_receipt"`
	}
	if err := json.Unmarshal(raw, &got); err != nil || resp.StatusCode != http.StatusOK || len(got.Data) != 1 {
		return "", fmt.Errorf("the vector is %s: %s", resp.Status, raw)
	}
	vector, err := base64.StdEncoding.DecodeString(got.Data[0].Embedding)
	if err != nil {
		return "", err
	}
	answer.Write(vector)
	return fmt.Sprintf("a vector of %d values for %d tokens", len(vector)/4, got.Usage.Total_tokens), os.WriteFile(d.receipt, got.Issued, 0o600)
}
