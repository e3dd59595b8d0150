package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"
)

// The list of what is linked into the programs is in CycloneDX 1.6
// (https://cyclonedx.org/docs/1.6/json/): these are the members that it uses.
type (
	bom struct {
		Schema       string       `json:"$schema"`
		Format       string       `json:"bomFormat"`
		SpecVersion  string       `json:"specVersion"`
		Serial       string       `json:"serialNumber"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	metadata struct {
		Timestamp  string     `json:"timestamp"`
		Lifecycles []phase    `json:"lifecycles"`
		Component  component  `json:"component"`
		Properties []property `json:"properties"`
	}
	phase struct {
		Phase string `json:"phase"`
	}
	component struct {
		Ref        string     `json:"bom-ref"`
		Type       string     `json:"type"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		Scope      string     `json:"scope,omitempty"`
		Hashes     []hash     `json:"hashes,omitempty"`
		Licenses   []license  `json:"licenses,omitempty"`
		PackageURL string     `json:"purl,omitempty"`
		Properties []property `json:"properties,omitempty"`
	}
	hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	license struct {
		License struct {
			ID string `json:"id"`
		} `json:"license"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	dependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn,omitempty"`
	}
)

// bom lists what is in the programs of one target. All of it comes from the built programs
// themselves; nothing is read from go.mod, which names modules that no program links.
func (r *release) bom(b *built) ([]byte, error) {
	self := b.programs[0].info.Main.Path
	project := component{Ref: packageURL(self, r.version), Type: "application", Name: self, Version: r.version, PackageURL: packageURL(self, r.version), Licenses: apache()}
	doc := bom{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		Metadata: metadata{Timestamp: r.when.Format(time.RFC3339), Lifecycles: []phase{{"build"}}, Component: project,
			Properties: []property{{"anchorhold:commit", r.commit}, {"anchorhold:target", b.target.String()}}},
	}
	std := standardLibrary(b.programs[0].info.GoVersion)
	modules := map[string]component{}
	whole := dependency{Ref: project.Ref}
	var edges []dependency
	for _, p := range b.programs {
		c, err := r.programComponent(p)
		if err != nil {
			return nil, err
		}
		doc.Components = append(doc.Components, c)
		whole.DependsOn = append(whole.DependsOn, c.Ref)
		edge := dependency{Ref: c.Ref, DependsOn: []string{std.Ref}}
		for _, m := range p.info.Deps {
			found, err := moduleComponent(*m)
			if err != nil {
				return nil, err
			}
			modules[m.Path] = found
			edge.DependsOn = append(edge.DependsOn, found.Ref)
		}
		edges = append(edges, edge)
	}
	doc.Components = append(doc.Components, std)
	doc.Dependencies = append([]dependency{whole}, edges...)
	doc.Dependencies = append(doc.Dependencies, dependency{Ref: std.Ref})
	for _, m := range b.modules() {
		doc.Components = append(doc.Components, modules[m.Path])
		doc.Dependencies = append(doc.Dependencies, dependency{Ref: modules[m.Path].Ref})
	}
	return encodeBOM(doc)
}

// encodeBOM gives the document a serial number that follows from its contents: equal builds
// have equal documents.
func encodeBOM(doc bom) ([]byte, error) {
	unnamed, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append([]byte("anchorhold/sbom/1\x00"), unnamed...))
	id := sum[:16]
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80 // RFC 9562: version 8, whose bits the maker defines
	doc.Serial = fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	out, err := json.MarshalIndent(doc, "", "  ")
	return append(out, '\n'), err
}

func apache() []license {
	var l license
	l.License.ID = "Apache-2.0"
	return []license{l}
}

// programComponent is a program, known by the sum of its file.
func (r *release) programComponent(p program) (component, error) {
	data, err := os.ReadFile(p.file)
	if err != nil {
		return component{}, err
	}
	sum := sha256.Sum256(data)
	c := component{Ref: "bin/" + p.name, Type: "application", Name: p.name, Version: r.version, Hashes: []hash{{"SHA-256", hex.EncodeToString(sum[:])}}, Licenses: apache()}
	for _, s := range p.info.Settings {
		c.Properties = append(c.Properties, property{"go:build:" + s.Key, s.Value})
	}
	return c, nil
}

// moduleComponent is a linked module. Its hash is the one of go.sum: over the names and sums of
// the module's files (golang.org/x/mod/sumdb/dirhash), not over an archive of them.
func moduleComponent(m debug.Module) (component, error) {
	encoded, ok := strings.CutPrefix(m.Sum, "h1:")
	sum, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if !ok || err != nil || len(sum) != sha256.Size {
		return component{}, fmt.Errorf("%s %s has sum %q, which is not an h1 sum", m.Path, m.Version, m.Sum)
	}
	url := packageURL(m.Path, m.Version)
	return component{Ref: url, Type: "library", Name: m.Path, Version: m.Version, Scope: "required", PackageURL: url,
		Hashes: []hash{{"SHA-256", hex.EncodeToString(sum)}}, Properties: []property{{"go:sum", m.Sum}}}, nil
}

// standardLibrary is Go's own packages, under the name that scanners for vulnerabilities know.
func standardLibrary(goVersion string) component {
	version := strings.TrimPrefix(goVersion, "go")
	url := packageURL("stdlib", version)
	return component{Ref: url, Type: "library", Name: "stdlib", Version: version, Scope: "required", PackageURL: url}
}

// packageURL names a Go module (https://github.com/package-url/purl-spec, type golang): the
// path in lower case, and the version percent-encoded.
func packageURL(path, version string) string {
	return "pkg:golang/" + strings.ToLower(path) + "@" + strings.ReplaceAll(version, "+", "%2B")
}
