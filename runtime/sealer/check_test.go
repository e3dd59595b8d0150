package sealer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
	"github.com/anchorhold/anchorhold/runtime/servable"
)

// variantFile writes a variant and returns its path.
func variantFile(t testing.TB, v gguftest.Variant) string {
	t.Helper()
	b, err := v.File(1)
	if err != nil {
		t.Fatalf("%s: %v", v.Name, err)
	}
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestEveryPartIsHonouredOrRefusedByName: what is unknown or changes the result is named by
// Check and refused by Seal, alike and without a file; what changes nothing is sealed. The
// table is what docs/models.md shows.
func TestEveryPartIsHonouredOrRefusedByName(t *testing.T) {
	var table strings.Builder
	refused, shown := 0, map[string]bool{}
	for _, v := range gguftest.Variants() {
		path := variantFile(t, v)
		report, err := Check(t.Context(), path, nil)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		var got []string
		for _, f := range report.Findings {
			got = append(got, string(f.Code)+" "+f.Name)
			shown[string(f.Code)] = true
		}
		slices.Sort(got)
		if want := slices.Sorted(slices.Values(v.Want)); !slices.Equal(got, want) {
			t.Errorf("%s: found %q, want %q", v.Name, got, want)
		}
		fmt.Fprintf(&table, "| %s | %s |\n", v.Name, says(report))

		opt := options(t, path)
		_, err = Seal(t.Context(), opt)
		refusal, isRefusal := errors.AsType[*servable.Error](err)
		if len(v.Want) == 0 {
			if err != nil {
				t.Errorf("%s: not sealed: %v", v.Name, err)
			}
			continue
		}
		refused++
		if !isRefusal || refusal.Findings[0].Code != report.Findings[0].Code || !strings.Contains(err.Error(), servable.Reason) {
			t.Errorf("%s: sealed, or refused otherwise than it was checked: %v", v.Name, err)
		}
		if _, err := os.Stat(opt.Out); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a refused model left a file: %v", v.Name, err)
		}
	}
	source, err := os.ReadFile("../servable/servable.go")
	if err != nil {
		t.Fatal(err)
	}
	codes := regexp.MustCompile(`Code += "([a-z-]+)"`).FindAllStringSubmatch(string(source), -1)
	for _, code := range codes {
		if !shown[code[1]] && servable.Code(code[1]) != servable.CodeClassifier { // which package seal of the command line shows
			t.Errorf("no file is refused for %s", code[1])
		}
	}
	if refused < 25 || len(codes) < 12 {
		t.Errorf("only %d files with unknown or changing parts, %d codes", refused, len(codes))
	}
	document(t, "variants", "| file | what `seal --check` says |\n|---|---|\n"+table.String())
}

// says is a report as the table of docs/models.md has it.
func says(r Checked) string {
	if len(r.Findings) == 0 {
		text := "can be served"
		for _, n := range r.Notes {
			text += fmt.Sprintf("; `%s` is not used: %s", n.Name, n.Why)
		}
		return text
	}
	var lines []string
	for _, f := range r.Findings {
		name := ""
		if f.Count > 1 {
			name = fmt.Sprintf(" (%d tensors)", f.Count)
		}
		lines = append(lines, fmt.Sprintf("`%s` `%s`%s: %s", f.Code, f.Name, name, strings.ReplaceAll(f.Detail, "|", `\|`)))
	}
	return strings.Join(lines, "<br>")
}

// document compares a generated part of docs/models.md, or writes it with UPDATE=1.
func document(t *testing.T, part, text string) {
	t.Helper()
	const path = "../../docs/models.md"
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(raw), "<!-- "+part+" -->\n")
	old, after, ok2 := strings.Cut(rest, "<!-- end of "+part+" -->")
	if !ok || !ok2 {
		t.Fatalf("%s has no part %s", path, part)
	}
	if old == text {
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Errorf("%s is stale in its part %s: UPDATE=1 go test ./runtime/sealer ./runtime/servable", path, part)
		return
	}
	if err := os.WriteFile(path, []byte(before+"<!-- "+part+" -->\n"+text+"<!-- end of "+part+" -->"+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestCheckReadsAndWritesNothingElse: no key, no output, no error that is called a finding.
func TestCheckReadsAndWritesNothingElse(t *testing.T) {
	path := variantFile(t, gguftest.Variant{})
	if _, err := Check(t.Context(), filepath.Join(filepath.Dir(path), "none.gguf"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Check(t.Context(), filepath.Dir(path), nil); err == nil {
		t.Error("a directory")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Check(ctx, path, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	var last, total int64
	c, err := Check(t.Context(), path, func(done, of int64) { last, total = done, of })
	if err != nil || len(c.Findings) != 0 || last != total || total == 0 || c.Architecture != "llama" || c.Tensors == 0 {
		t.Errorf("%+v, %d of %d, %v", c, last, total, err)
	}
	onlyFile(t, path)

	opt := options(t, path)
	if _, err := Seal(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	sealed, err := Check(t.Context(), opt.Out, nil)
	if err != nil || len(sealed.Findings) != 1 || sealed.Findings[0].Code != servable.CodeFormat || !strings.Contains(sealed.Findings[0].Detail, "already sealed") {
		t.Errorf("a sealed file: %+v, %v", sealed, err)
	}
}

// TestUncheckedSealsWhatOlderVersionsDid, and only where it is asked for.
func TestUncheckedSealsWhatOlderVersionsDid(t *testing.T) {
	path := variantFile(t, gguftest.Variant{Edit: func(m *gguftest.Model) { m.Vector("blk.0.attn_q_norm.weight", gguftest.HeadSize, 1) }})
	opt := options(t, path)
	if _, err := Seal(t.Context(), opt); err == nil {
		t.Error("sealed")
	}
	opt.Unchecked = true
	if _, err := Seal(t.Context(), opt); err != nil {
		t.Error(err)
	}
}
