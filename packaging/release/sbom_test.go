package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden file anew")

// sampleBuild is a build of two programs that share a module.
func sampleBuild(t *testing.T) (*release, *built) {
	t.Helper()
	dir := t.TempDir()
	shared := &debug.Module{Path: "example.com/Shared", Version: "v1.2.3+incompatible", Sum: h1("shared")}
	alone := &debug.Module{Path: "example.com/alone/v2", Version: "v2.0.1", Sum: h1("alone")}
	b := &built{target: target{"linux", "amd64"}, programs: []program{
		{"one", filepath.Join(dir, "one"), goodInfo("one", alone, shared)},
		{"two", filepath.Join(dir, "two"), goodInfo("two", shared)},
	}}
	for _, p := range b.programs {
		write(t, p.file, "program "+p.name)
	}
	r := &release{version: "v0.2.0"}
	r.commit, r.when = "0123456789abcdef0123456789abcdef01234567", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return r, b
}

func TestListOfContentsStaysByteForByte(t *testing.T) {
	r, b := sampleBuild(t)
	got, err := r.bom(b)
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "sbom.cdx.json")
	if *update {
		write(t, golden, string(got))
	}
	want, err := os.ReadFile(golden)
	if err != nil || string(got) != string(want) {
		t.Errorf("%v, got %s", err, got)
	}
}

// TestListOfContentsIsSound checks what the format's schema asks of the members that we use,
// and what a scanner relies on.
func TestListOfContentsIsSound(t *testing.T) {
	r, b := sampleBuild(t)
	data, err := r.bom(b)
	if err != nil {
		t.Fatal(err)
	}
	var doc bom
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(doc.Serial) {
		t.Errorf("serial number %s", doc.Serial)
	}
	refs := map[string]string{doc.Metadata.Component.Ref: doc.Metadata.Component.Type}
	for _, c := range doc.Components {
		if _, twice := refs[c.Ref]; twice || c.Name == "" || c.Version == "" {
			t.Errorf("component %+v", c)
		}
		refs[c.Ref] = c.Type
		for _, h := range c.Hashes {
			if h.Algorithm != "SHA-256" || !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(h.Content) {
				t.Errorf("%s: hash %+v", c.Name, h)
			}
		}
		if c.Type == "library" && c.PackageURL == "" || c.Name != "stdlib" && len(c.Hashes) != 1 {
			t.Errorf("component %+v", c)
		}
	}
	if len(doc.Dependencies) != len(refs) {
		t.Errorf("%d of %d components say what they depend on", len(doc.Dependencies), len(refs))
	}
	for _, d := range doc.Dependencies {
		if refs[d.Ref] == "" {
			t.Errorf("%s is not listed", d.Ref)
		}
		for _, on := range d.DependsOn {
			if refs[on] == "" {
				t.Errorf("%s depends on %s, which is not listed", d.Ref, on)
			}
		}
	}
	b.programs[1].info.Deps[0].Sum = "h2:" + b.programs[1].info.Deps[0].Sum[3:]
	if _, err := r.bom(b); err == nil {
		t.Error("a sum of another form passes")
	}
}

func TestPackageURLs(t *testing.T) {
	for _, c := range [][3]string{
		{"github.com/ALTree/bigfloat", "v0.2.0", "pkg:golang/github.com/altree/bigfloat@v0.2.0"},
		{"example.com/x/v2", "v2.0.0+incompatible", "pkg:golang/example.com/x/v2@v2.0.0%2Bincompatible"},
		{"stdlib", "1.26.8", "pkg:golang/stdlib@1.26.8"},
	} {
		if got := packageURL(c[0], c[1]); got != c[2] {
			t.Errorf("got %s, want %s", got, c[2])
		}
	}
}
