package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/identity"
)

// CheckTree checks the files that a configuration names as they lie below a directory: those of an image that is not
// built yet. A file that is there and wrong is an error. One that is not there is a notice: a package may bring it, or
// a disk of the guest. Of the machine nothing is asked.
func (c Config) CheckTree(root string) Findings {
	var f Findings
	c = c.below(root, &f)
	c.checkTrust(&f)
	c.checkServed(&f)
	return f
}

// below is the configuration with the paths of what is in the tree, and without those that are not.
func (c Config) below(root string, f *Findings) Config {
	in := func(field, path string) string { return inTree(root, field, path, f) }
	c.Broker.TLSRoots = in("broker.tls_roots", c.Broker.TLSRoots)
	c.Federation.TLSRoots = in("federation.tls_roots", c.Federation.TLSRoots)
	c.Proofs.Keys = in("proofs.keys", c.Proofs.Keys)
	var roots []string
	for _, entry := range c.Broker.RootKeys {
		if entry = in("broker.root_keys", entry); entry != "" {
			roots = append(roots, entry)
		}
	}
	c.Broker.RootKeys = roots
	c.Models, c.Classifiers = append([]Model{}, c.Models...), append([]Classifier{}, c.Classifiers...)
	for i := range c.Models {
		m, field := &c.Models[i], fmt.Sprintf("models[%d]", i)
		m.Path, m.Publisher = in(field+".path", m.Path), in(field+".publisher", m.Publisher)
	}
	for i := range c.Classifiers {
		m, field := &c.Classifiers[i], fmt.Sprintf("classifiers[%d]", i)
		m.Path, m.Publisher = in(field+".path", m.Path), in(field+".publisher", m.Publisher)
	}
	return c
}

// inTree is where a file of the guest lies; empty if it does not lie there. What is no path, such as a key in its text
// form, stays. Links that lead out of the tree are not followed: they would show a file of this machine.
func inTree(root, field, path string, f *Findings) string {
	var key identity.Public
	if path == "" || key.UnmarshalText([]byte(path)) == nil {
		return path
	}
	base, err := filepath.EvalSymlinks(root)
	if err != nil {
		f.errorf("%s: %v", field, err)
		return ""
	}
	at, err := filepath.EvalSymlinks(filepath.Join(base, filepath.Join("/", path)))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.noticef("%s: %s is not below %s: a package must bring it, or a disk of the guest", field, path, root)
	case err != nil:
		f.errorf("%s: %v", field, err)
	case at != base && !strings.HasPrefix(at, strings.TrimSuffix(base, "/")+string(os.PathSeparator)):
		f.noticef("%s: %s is a link that leads out of %s, and was not checked", field, path, root)
	default:
		return at
	}
	return ""
}
