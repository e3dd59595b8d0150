package protocol

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// documented says which page lists the reasons of a folder and of those below it, unless
// they have a line of their own.
var documented = map[string]string{
	"agent": "protocol.md", "guest": "protocol.md", "keybroker": "protocol.md", "systemd": "operations.md",
	"crypto/chunkseal": "sealed-format.md", "crypto/filelist": "releases.md", "crypto/hybridtls": "protocol.md",
	"image": "image.md", "image/gpt": "measure.md", "image/measure": "measure.md", "keybroker/policy/publication": "measure.md",
	"runtime": "classifiers.md", "runtime/servable": "models.md",
}

// local are the reasons that never leave the machine: an operator reads them.
var local = []string{"cache-type", "memory-limit-above-unit", "reload-needs-restart", "reload-under-way"}

// pageOf is the page that lists a folder's reasons; "" if none does.
func pageOf(dir string) string {
	for ; dir != "."; dir = path.Dir(dir) {
		if page := documented[dir]; page != "" {
			return page
		}
	}
	return ""
}

// TestDocumentListsEveryReason reads the reason codes out of the sources and looks for each in
// the page that lists those of its folder.
func TestDocumentListsEveryReason(t *testing.T) {
	longtest.WithoutRace(t, "it searches every source file")
	root := filepath.Join("..", "..")
	pages := map[string]string{}
	for _, page := range documented {
		text, err := os.ReadFile(filepath.Join(root, "docs", page))
		if err != nil {
			t.Fatal(err)
		}
		pages[page] = string(text)
	}
	code := regexp.MustCompile(`(?m)^\s*(?:const )?(?:Reason|Code)[A-Z]\w*\s*(?:(?:refusal\.)?(?:Reason|Code)\s*)?=\s*"([a-z0-9-]+)"|refusal\.New\("([a-z0-9-]+)"`)
	found := 0
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		src, err := os.ReadFile(name)
		dir := filepath.ToSlash(filepath.Dir(strings.TrimPrefix(name, root+string(filepath.Separator))))
		for _, m := range code.FindAllStringSubmatch(string(src), -1) {
			found++
			reason, page := m[1]+m[2], pageOf(dir)
			if slices.Contains(local, reason) {
				page = "operations.md"
			}
			switch {
			case page == "":
				t.Errorf("%s: no page lists the reasons of %s, such as %s", name, dir, reason)
			case !strings.Contains(pages[page], "`"+reason+"`"):
				t.Errorf("%s: the reason code %s is not in docs/%s", name, reason, page)
			}
			if !validReason(reason) {
				t.Errorf("%s: %q cannot be sent as a reason", name, reason)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 300 {
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
		contextEpoch, contextEpochRequest, contextChallenge, contextAttest, contextRelease, contextReceipt, contextPermit, contextRestart, contextPermitRequest, labelPermitChain} {
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
