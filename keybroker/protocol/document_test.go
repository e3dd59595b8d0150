package protocol

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentListsEveryReason reads the reason codes out of the sources of
// every package that can refuse an exchange and looks for them in the table.
func TestDocumentListsEveryReason(t *testing.T) {
	root := filepath.Join("..", "..")
	doc, err := os.ReadFile(filepath.Join(root, "docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile(`(?m)^\s*(?:const )?(?:Reason|Code)[A-Z]\w*\s*(?:(?:refusal\.)?Reason\s*)?=\s*"([a-z0-9-]+)"`)
	found := 0
	for _, dir := range []string{"keybroker", filepath.Join("guest", "evidence"), filepath.Join("crypto", "hybridtls")} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			src, err := os.ReadFile(name)
			for _, m := range code.FindAllStringSubmatch(string(src), -1) {
				found++
				if !strings.Contains(string(doc), "`"+m[1]+"`") {
					t.Errorf("%s: the reason code %s is not in docs/protocol.md", name, m[1])
				}
				if !validReason(m[1]) {
					t.Errorf("%s: %q cannot be sent as a reason", name, m[1])
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 70 {
		t.Errorf("only %d reason codes were found: the search is broken", found)
	}
}

// TestDocumentNamesEveryLabel keeps the specification complete.
func TestDocumentNamesEveryLabel(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	for _, label := range []string{labelMessage, labelTranscript, labelRelease, labelKeyInfo, labelLeaseChain, labelProcessor,
		contextEpoch, contextEpochRequest, contextChallenge, contextAttest, contextRelease, contextReceipt} {
		if !strings.Contains(doc, label) {
			t.Errorf("label %s is not in docs/protocol.md", label)
		}
	}
	for typ := TypeHello; typ <= TypeRefusal; typ++ {
		if !strings.Contains(doc, "`"+typ.String()+"`") {
			t.Errorf("label %s is not in docs/protocol.md", typ)
		}
	}
}
