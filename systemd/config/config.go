// Package config decodes YAML strictly, for daemons whose configuration decides
// who gets keys.
//
// An unknown key, a duplicate key or a value of another type is an error that names line
// and column in one sentence. Every field of a decoded value comes from the file or has its
// zero value. Package yaml says which documents are read at all. Daemons and policies call
// [Decode].
package config

import (
	"fmt"
	"reflect"

	"github.com/anchorhold/anchorhold/systemd/config/yaml"
)

// MaxBytes bounds a document's size.
const MaxBytes = yaml.MaxBytes

// Error is what is wrong with a document, and where.
type Error = yaml.Error

// Decode reads one YAML document into a pointer to a struct.
func Decode(data []byte, into any) error {
	target := reflect.TypeOf(into)
	if target == nil || target.Kind() != reflect.Pointer || reflect.ValueOf(into).IsNil() {
		return fmt.Errorf("decode into %T: not a pointer to a struct", into)
	}
	root, err := yaml.Parse(data)
	if err != nil {
		return err
	}
	if err := checkShape(root, target.Elem()); err != nil {
		return err
	}
	if err := fill(root, reflect.ValueOf(into).Elem()); err != nil {
		return err
	}
	return nil
}
