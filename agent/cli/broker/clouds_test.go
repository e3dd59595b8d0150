package broker

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	agentsettings "github.com/anchorhold/anchorhold/agent/settings"
	brokersettings "github.com/anchorhold/anchorhold/keybroker/daemon/settings"
	"github.com/anchorhold/anchorhold/keybroker/policy"
)

// blocksOf are the YAML blocks of a page by the line before each, dotted values filled in.
func blocksOf(t *testing.T, page string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("…96 hexadecimal digits…", strings.Repeat("ab", 48), "…64 hexadecimal digits…", strings.Repeat("cd", 32))
	for _, m := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, fill.Replace(m[1]))
	}
	return blocks
}

// sections are what an agent's configuration has besides "compute".
const sections = "broker: {address: \"b.example:8443\", tls_roots: /etc/tls.crt, root_keys: [/etc/root.pub], minimum_epoch: 1}\n" +
	"guest: {image_id: image-7, state_dir: /var/lib/agent}\n" +
	"models: [{name: demo, path: /model.ahm, resource: models/demo, publisher: /etc/publisher.pub, minimum_version: 1}]\n"

// readAs reads a block as what it is, and says what that was.
func readAs(block string) (what string, err error) {
	switch {
	case strings.Contains(block, "\nreference_values:\n"):
		_, err = policy.ParseReferenceValues([]byte(block))
		return "values", err
	case strings.HasPrefix(block, "format:"):
		_, err = policy.Parse([]byte(block))
		return "policy", err
	case strings.HasPrefix(block, "state_dir:"):
		c, err := brokersettings.Parse([]byte(block))
		if err == nil {
			err = c.Check()
		}
		return "broker", err
	}
	if !strings.Contains(block, "\nbroker:\n") { // one section, for which the page has the others
		block += sections
	}
	_, findings, err := agentsettings.Parse([]byte(block))
	if err == nil && len(findings.Errors)+len(findings.Missing) > 0 {
		err = fmt.Errorf("%v, missing %v", findings.Errors, findings.Missing)
	}
	return "agent", err
}

// TestPagesForAdministratorsAreReadAsInService: every block of YAML of docs/clouds.md and
// docs/collateral.md is what the program that it is for accepts.
func TestPagesForAdministratorsAreReadAsInService(t *testing.T) {
	found := map[string]int{}
	for _, page := range []string{"clouds.md", "collateral.md"} {
		for _, block := range blocksOf(t, page) {
			what, err := readAs(block)
			if found[what]++; err != nil {
				t.Errorf("%s, %s: %v\n%s", page, what, err, block)
			}
		}
	}
	if found["policy"] < 8 || found["broker"] < 9 || found["agent"] < 3 || found["values"] < 2 {
		t.Errorf("the pages have %v", found)
	}
	if _, err := readAs("format: 2\nid: x\n"); err == nil {
		t.Error("half a policy is accepted")
	}
}

// TestPagesShowValuesOfTheNewestFormat: whoever copies one can say what it covers.
func TestPagesShowValuesOfTheNewestFormat(t *testing.T) {
	docs := filepath.Join("..", "..", "..", "docs")
	pages, err := filepath.Glob(filepath.Join(docs, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^format: (\d+)\nreference_values:`).FindAllStringSubmatch(string(text), -1) {
			if shown++; m[1] != "2" {
				t.Errorf("%s: values of format %s", page, m[1])
			}
		}
	}
	byHand, err := os.ReadFile(filepath.Join(docs, "by-hand.md"))
	if err != nil {
		t.Fatal(err)
	}
	file := regexp.MustCompile(`(?s)cat > values.yaml <<END\n(.*?)END\n`).FindSubmatch(byHand)
	if file == nil || shown < 2 {
		t.Fatalf("%d files of values are shown, and by-hand.md has %q", shown, file)
	}
	if v, err := policy.ParseReferenceValues(file[1]); err != nil || len(v) != 1 || v[0].Covers != "image" || !v[0].Software {
		t.Errorf("%+v, %v", v, err)
	}
}
