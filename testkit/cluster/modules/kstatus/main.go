// Package main says what those who judge by kstatus (Flux, Helm, kubectl's apply sets) make of Kubernetes objects: a list
// of objects as JSON on standard input, a list of {"status", "message"} on standard output.
package main

import (
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func main() {
	if err := judge(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func judge(input io.Reader, output io.Writer) error {
	text, err := io.ReadAll(input)
	if err != nil {
		return err
	}
	// Into an interface, because only then are numbers read as the integers that kstatus looks for.
	var objects []interface{}
	if err := json.Unmarshal(text, &objects); err != nil {
		return err
	}
	verdicts := make([]verdict, 0, len(objects))
	for _, object := range objects {
		result, err := status.Compute(&unstructured.Unstructured{Object: object.(map[string]interface{})})
		if err != nil {
			return err
		}
		verdicts = append(verdicts, verdict{Status: result.Status.String(), Message: result.Message})
	}
	told, err := json.Marshal(verdicts)
	if err != nil {
		return err
	}
	_, err = output.Write(told)
	return err
}
