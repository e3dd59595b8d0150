package build

import (
	"encoding/json"
	"os"
	"strings"
)

// Manifest says what an image is made of, in a file beside it.
type Manifest struct {
	// Format is 1.
	Format int `json:"format"`
	// Name is the image's.
	Name string `json:"name"`
	// Made is the only time in the image, that of the commit or of SOURCE_DATE_EPOCH.
	Made string `json:"made"`
	// RootHash is that of dm-verity.
	RootHash string `json:"root_hash"`
	// CommandLine is the kernel's.
	CommandLine string `json:"command_line"`
	// Files are the results.
	Files []File `json:"files"`
	// Packages are those in the root.
	Packages []Package `json:"packages"`
}

// File is a result.
type File struct {
	// Name is the file's, Bytes its size.
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
	// SHA256 is its digest.
	SHA256 string `json:"sha256"`
}

// Package is a Debian package.
type Package struct {
	// Name and Version are the package's.
	Name    string `json:"name"`
	Version string `json:"version"`
}

func (m *Manifest) write(path string) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), fileMode)
}

// packagesIn reads dpkg's list of what is installed.
func packagesIn(status string) (all []Package) {
	for block := range strings.SplitSeq(status, "\n\n") {
		var p Package
		installed := false
		for line := range strings.Lines(block) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch key {
			case "Package":
				p.Name = value
			case "Version":
				p.Version = value
			case "Status":
				installed = strings.HasSuffix(value, " installed")
			}
		}
		if installed && p.Name != "" {
			all = append(all, p)
		}
	}
	return all
}
